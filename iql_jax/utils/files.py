"""Files that appear whole or not at all, and how reading them fails."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


def is_damage(error: Exception) -> bool:
    """Return whether reading failed because of what a file holds, which shows as almost any error.

    Where the system refuses (no permission, too many open files, no memory), it may be sound.
    """
    # Damage may send the reader to a place before the file's start: an invalid argument.
    refused = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
    return not (refused or isinstance(error, MemoryError))


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
