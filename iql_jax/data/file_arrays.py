"""The arrays of D4RL's HDF5 and OGBench's npz files, and those of a caller."""

import contextlib
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from iql_jax.utils.errors import UserError
from iql_jax.utils.files import reading

Arrays = dict[str, npt.NDArray[Any]]

_VECTORS = ("observations", "actions", "next_observations")
_FLAGS = ("terminals", "timeouts")
_HEADER = np.lib.format.read_array_header_2_0, np.lib.format.read_array_header_1_0


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
    with reading(path, "it is of another format or damaged"), open_arrays(path) as file:
        return take_arrays(file, required, optional, str(path))


def take_arrays(
    stored: Mapping[str, Any], required: Sequence[str], optional: Sequence[str], name: str
) -> Arrays:
    """Returns these of stored arrays, checked, as ``read_arrays`` does; ``name`` is for errors."""
    found = {key: stored[key] for key in (*required, *optional) if key in stored}
    if missing := [key for key in required if key not in found]:
        raise UserError(f"{name} lacks {', '.join(missing)}")
    rows = math.prod(found["observations"].shape[:1])
    if not rows:
        raise UserError(f"{name} holds no rows")
    for key, array in found.items():  # Before any is read: a small file may hold a huge one.
        _check(key, array, rows, name)
    arrays = {key: _read(key, array) for key, array in found.items()}
    following = arrays.get("next_observations", arrays["observations"])
    if following.shape != arrays["observations"].shape:
        raise UserError(f"'next_observations' in {name} have the shape {list(following.shape)}")
    return arrays


def check_widths(arrays: Arrays, expected: tuple[int, int], task: str, name: str) -> None:
    """Refuses observations and actions that are not as wide as a task's."""
    for key, width in zip(("observations", "actions"), expected, strict=True):
        if (found := arrays[key].shape[1]) != width:
            raise UserError(
                f"{key} in {name} have {found} numbers, but those of {task} have {width}: it is "
                "another task's file; config.task names the task ('none': none)"
            )


@contextlib.contextmanager
def open_arrays(path: pathlib.Path) -> Iterator[Mapping[str, Any]]:
    """Opens an .npz file, or else an HDF5 one."""
    if path.suffix.lower() == ".npz":
        # Opened here, for np.load leaves a damaged file open.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            for member in archive.zip.infolist():
                with archive.zip.open(member) as file:
                    is_first = np.lib.format.read_magic(file) == (1, 0)
                    shape, _, dtype = _HEADER[is_first](file)
                if math.prod(shape) * dtype.itemsize > member.file_size:
                    raise ValueError(f"{member.filename} holds less than its header says")
            yield archive
    else:
        with h5py.File(path, "r") as file:
            yield file


def _check(key: str, stored: Any, rows: int, name: str) -> None:
    """Refuses an array of another shape or type, or that lies in another file."""
    if isinstance(stored, h5py.Dataset):
        check_place(stored.id, b"", pathlib.Path(name).resolve())
    is_vector, shape = key in _VECTORS, stored.shape
    fits = (len(shape) == 2 and shape[1]) if is_vector else shape in ((rows,), (rows, 1))
    kinds = "f" if is_vector else "fiub"
    if stored.dtype.kind not in kinds or not fits or shape[0] != rows:
        expected = "a vector of floating-point numbers" if is_vector else "a number"
        raise UserError(
            f"{key!r} in {name} have shape {list(shape)} and type {stored.dtype}, not "
            f"{expected} for each of {rows} rows"
        )


def _read(key: str, stored: Any) -> npt.NDArray[Any]:
    array = np.asarray(stored) if key in _VECTORS else np.asarray(stored).ravel()
    if key in _FLAGS:
        return array != 0
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def check_place(stored: h5py.h5d.DatasetID, file: bytes, allowed: pathlib.Path) -> bool:
    """Refuses numbers that are not in ``file``, nor in an HDF5 file in the ``allowed`` folder.

    Returns whether they lie in ``file``. A stranger may have written it: links lead to other HDF5
    files; external storage leads to any file, whose bytes become numbers.
    """
    place = h5py.h5f.get_name(stored)
    try:
        stored.get_chunk_info(0)  # Which is always in the file, and faster to ask for.
        if place == file:
            return True
    except (RuntimeError, ValueError):
        pass
    plist = stored.get_create_plist()
    is_elsewhere = plist.get_external_count() or plist.get_layout() == h5py.h5d.VIRTUAL
    if is_elsewhere or not pathlib.Path(os.fsdecode(place)).resolve().is_relative_to(allowed):
        name = os.fsdecode(h5py.h5i.get_name(stored))
        raise UserError(
            f"{name!r} lies in another file, outside of {allowed}: only copied there it is read"
        )
    return place == file
