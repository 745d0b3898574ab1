"""What processes left half written when they were killed."""

import contextlib
import pathlib
import shutil
import time

_ABANDONED_SECONDS = 24 * 3600.0
"""Age from which on nobody writes it any more: that takes seconds, or a download's hours."""


def sweep(folder: pathlib.Path, pattern: str) -> None:
    """Remove files and folders that were begun under a temporary name a day or longer ago.

    Args:
        folder: where they lie.
        pattern: what their names are like.
    """
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):  # Another process may sweep too.
            if time.time() - path.stat().st_mtime < _ABANDONED_SECONDS:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
