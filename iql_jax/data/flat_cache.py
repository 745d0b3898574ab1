"""Keeps large Minari datasets flat: opening their many small HDF5 arrays takes ten seconds."""

import contextlib
import hashlib
import os
import pathlib
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

from iql_jax import __version__
from iql_jax.utils.files import cache_folder

Arrays = dict[str, npt.NDArray[Any]]

SLOW_SECONDS = 2.0
"""Datasets that are read in less are not kept."""

_STAMP = "stamp"  # Of what was read, among the arrays.


def stamp(file: pathlib.Path, metadata: str) -> str:
    """Returns what is another if a dataset's file or its metadata have changed."""
    status = file.stat()
    key = (
        __version__,
        str(file.resolve()),
        status.st_size,
        status.st_mtime_ns,
        status.st_ino,
        metadata,
    )
    return hashlib.sha256(repr(key).encode()).hexdigest()


def load(file: pathlib.Path, stamped: str) -> Arrays | None:
    """Returns the arrays that ``store`` has kept; None where there are none, or of another file."""
    with (
        contextlib.suppress(Exception),  # Whatever is wrong with it.
        open(_place(file), "rb") as stream,
        np.load(stream, allow_pickle=False) as kept,
    ):
        if str(kept[_STAMP]) == stamped:
            return {name: kept[name] for name in kept if name != _STAMP}
    return None


def store(file: pathlib.Path, stamped: str, arrays: Arrays) -> None:
    """Keeps arrays in place of the file's earlier ones; a cache that cannot be written is none."""
    with contextlib.suppress(OSError, RuntimeError):
        place = _place(file)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.parent, suffix=".npz", delete=False) as stream:
            try:
                content: dict[str, Any] = {**arrays, _STAMP: np.array(stamped)}
                np.savez(stream, **content)
                os.replace(stream.name, place)
            finally:
                pathlib.Path(stream.name).unlink(missing_ok=True)


def _place(file: pathlib.Path) -> pathlib.Path:
    name = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]
    return cache_folder() / "datasets" / f"{name}.npz"
