"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def partial_path(path: Path) -> Path:
    """Where ``atomic_path`` writes; a process that is killed may leave it behind."""
    return path.with_name(f".{path.stem}.partial{path.suffix}")  # Some writers go by the suffix.


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to, which takes its place once the block has ended well.

    If the block raises, ``path`` is as it was, and nothing is left beside it.
    """
    partial = partial_path(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
