"""Files that appear whole or not at all, how reading them fails, and JSON of a stranger.

Python's own reader takes numbers that no array can hold, and texts that no terminal can show.
"""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iql_jax.utils.errors import UserError, one_line

_REFUSALS = {
    errno.EAGAIN: "another process is writing to it; wait until that is done",
    errno.ENOLCK: "its file system has no locks; set HDF5_USE_FILE_LOCKING=FALSE",
}
"""What the system's errors for a file that is locked mean, and what helps."""

_DEEPEST = 64  # Records and metadata nest less than ten deep.
_NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


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


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Raises:
        UserError: if it cannot be read; ``advice`` says what to do where it is damaged or missing.
    """
    with reading(path, advice):
        content = parse_json(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no object")
    return content


def parse_json(text: str) -> Any:
    """Parses JSON whose integers fit 64 bits, and whose texts have no control characters.

    Raises:
        ValueError: in one line, if it is not such.
    """
    try:
        content = json.loads(text)
        _check(content)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return content


def _check(node: Any, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise RecursionError
    if isinstance(node, str) and _NO_TEXT.search(node):
        raise ValueError(f"{node[:40]!r} holds characters that are no text")
    if isinstance(node, int) and not -(2**63) <= node < 2**64:
        raise ValueError("it holds an integer of more than 64 bits")
    if isinstance(node, dict | list):
        for child in [*node, *node.values()] if isinstance(node, dict) else node:
            _check(child, depth + 1)
