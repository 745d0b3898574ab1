"""Reading the arrays of D4RL's HDF5 and OGBench's npz files."""

import pathlib
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from iql_jax.utils.errors import UserError
from iql_jax.utils.files import is_damage

Arrays = dict[str, npt.NDArray[Any]]

_VECTORS = ("observations", "actions", "next_observations")
_FLAGS = ("terminals", "timeouts")


def read_arrays(path: pathlib.Path, required: Sequence[str], optional: Sequence[str]) -> Arrays:
    """Reads these arrays of an .npz file, or else of an HDF5 one.

    Returns:
        Of N rows: vectors as [N, d], float32 or float64 as stored; flags as [N], bool; other
        numbers as [N], float32 or float64. (Some files store numbers as [N, 1].)

    Raises:
        UserError: if the file is missing, of another format or damaged, or its arrays do not fit.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    read = _read_npz if path.suffix.lower() == ".npz" else _read_hdf5
    try:
        arrays = read(path, (*required, *optional))
    except Exception as error:
        if not is_damage(error):
            raise
        raise UserError(
            f"{path} cannot be read ({' '.join(str(error).split())}): it is of another format or "
            "damaged"
        ) from error
    if missing := [key for key in required if key not in arrays]:
        raise UserError(f"{path} lacks {', '.join(missing)}: it is not in the format of its suffix")
    rows = len(np.atleast_1d(arrays["observations"]))
    if not rows:
        raise UserError(f"{path} holds no rows")
    arrays = {key: _checked(key, array, rows, path) for key, array in arrays.items()}
    following = arrays.get("next_observations", arrays["observations"])
    if following.shape != arrays["observations"].shape:
        raise UserError(f"'next_observations' in {path} have the shape {list(following.shape)}")
    return arrays


def check_widths(arrays: Arrays, expected: tuple[int, int], task: str, path: pathlib.Path) -> None:
    """Refuses observations and actions that are not as wide as a task's."""
    for key, width in zip(("observations", "actions"), expected, strict=True):
        if (found := arrays[key].shape[1]) != width:
            raise UserError(
                f"{key} in {path} have {found} numbers, but those of {task} have {width}: it is "
                "another task's file; config.task names the task ('none': none)"
            )


def _read_hdf5(path: pathlib.Path, keys: Sequence[str]) -> Arrays:
    with h5py.File(path, "r") as file:
        return {key: np.asarray(file[key]) for key in keys if key in file}


def _read_npz(path: pathlib.Path, keys: Sequence[str]) -> Arrays:
    # Opened here, for np.load leaves a damaged file open.
    with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return {key: archive[key] for key in keys if key in archive}


def _checked(key: str, array: npt.NDArray[Any], rows: int, path: pathlib.Path) -> npt.NDArray[Any]:
    is_vector = key in _VECTORS
    if not is_vector and array.shape == (rows, 1):
        array = array[:, 0]
    kinds = "f" if is_vector else "fiub"
    if array.dtype.kind not in kinds or array.ndim != 1 + is_vector or len(array) != rows:
        expected = "a vector of floating-point numbers" if is_vector else "a number"
        raise UserError(
            f"{key!r} in {path} have shape {list(array.shape)} and type {array.dtype}, not "
            f"{expected} for each of {rows} rows"
        )
    if key in _FLAGS:
        return array != 0
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
