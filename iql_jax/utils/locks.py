"""Locks between processes; the system releases those of a process that dies, however it dies."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that a file is; it and its folder are made where they are missing.

    Whoever holds the lock may remove both.

    Args:
        path: The file, which stays.

    Raises:
        BlockingIOError: If another process holds the lock.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(path.open("a"))
            except FileNotFoundError:  # Whoever held the lock has just removed the folder.
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_open_file(path, file.fileno()):
                yield
                return


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock now."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _is_open_file(path: Path, descriptor: int) -> bool:
    """Whether a path still leads to the file that was opened under it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
