"""Files that appear whole or not at all, and how reading them fails."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from iql_jax.utils.errors import UserError, one_line

_REFUSALS = {
    errno.EAGAIN: "another process is writing to it; wait until that is done",
    errno.ENOLCK: "its file system has no locks; set HDF5_USE_FILE_LOCKING=FALSE",
}
"""What the system's errors for a file that is locked mean, and what helps."""


@contextlib.contextmanager
def reading(what: Path | str, advice: str) -> Iterator[None]:
    """Makes a UserError of whatever goes wrong in the block, which reads ``what`` alone.

    ``advice`` says what to do where it is missing or damaged, which shows as almost any error.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        # Damage may send a reader to a place before the file's start: an invalid argument.
        number = error.errno if isinstance(error, OSError) else None
        if number in (None, errno.EINVAL, errno.ENOENT):
            raise UserError(f"{what} cannot be read ({one_line(error)}): {advice}") from error
        reason = _REFUSALS.get(number) or os.strerror(number)  # The file may be sound.
        raise UserError(f"{what} cannot be read: {reason}") from error


def cache_folder() -> Path:
    """Returns the package's folder in the user's cache; raises RuntimeError without a home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "iql_jax"


def partial_path(path: Path) -> Path:
    """Returns where ``atomic_path`` writes; a process that is killed may leave it behind."""
    return path.with_name(f".{path.stem}.partial{path.suffix}")  # Some writers go by the suffix.


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a path beside ``path`` to write to, which replaces it unless the block raises."""
    partial = partial_path(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
