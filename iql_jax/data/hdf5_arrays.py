"""Reading the arrays of D4RL's HDF5 files."""

import pathlib
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from iql_jax.utils.errors import UserError

_REQUIRED = ("observations", "actions", "rewards", "terminals")
_OPTIONAL = ("timeouts", "next_observations")

Arrays = dict[str, npt.NDArray[Any]]


def read_arrays(path: pathlib.Path, progress: bool = True) -> Arrays:
    """Reads what of a file makes up transitions; ``infos/*`` and ``metadata/*`` are left.

    Returns:
        Of N rows: observations and next_observations [N, d], actions [N, a] and rewards [N] as
        float32 or float64, as stored; terminals and timeouts [N] as bool. The file need not have
        next_observations and timeouts.

    Raises:
        UserError: if it is missing, no HDF5 file or damaged, lacks a key, or its arrays do not fit
            together; names the key.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(
            f"{path} cannot be opened as HDF5 ({error}): it is of another format or damaged"
        ) from error
    with file:
        nodes = _nodes(file, path)
        arrays: Arrays = {}
        for key, node in tqdm(nodes.items(), f"reading {path.name}", disable=not progress):
            try:
                arrays[key] = node[()]
            except (OSError, RuntimeError, ValueError) as error:
                raise UserError(
                    f"{key!r} in {path} cannot be read ({error}): get the file again"
                ) from error
    arrays = {key: _checked(key, array, arrays, path) for key, array in arrays.items()}
    following = arrays.get("next_observations")
    if following is not None and following.shape != arrays["observations"].shape:
        raise UserError(
            f"'next_observations' in {path} have shape {list(following.shape)}, but 'observations' "
            f"{list(arrays['observations'].shape)}"
        )
    return arrays


def _nodes(file: h5py.File, path: pathlib.Path) -> dict[str, h5py.Dataset]:
    missing = [key for key in _REQUIRED if key not in file]
    if missing:
        found = ", ".join(sorted(file)) or "nothing"
        raise UserError(
            f"{path} is no file in D4RL's format: it lacks {', '.join(missing)}, it has {found}"
        )
    nodes = {key: file[key] for key in (*_REQUIRED, *_OPTIONAL) if key in file}
    for key, node in nodes.items():
        if not isinstance(node, h5py.Dataset) or not node.shape or node.dtype.kind not in "fiub":
            raise UserError(f"{key!r} in {path} is no array of numbers")
    if not len(nodes["observations"]):
        raise UserError(f"{path} holds no rows")
    return nodes


def _checked(
    key: str, array: npt.NDArray[Any], arrays: Arrays, path: pathlib.Path
) -> npt.NDArray[Any]:
    """Returns vectors as [N, d] and numbers as [N]; some files store the latter as [N, 1]."""
    rows = len(arrays["observations"])
    if len(array) != rows:
        raise UserError(
            f"{key!r} in {path} have {len(array)} rows, but 'observations' {rows}: get it again"
        )
    is_vector = key in ("observations", "actions", "next_observations")
    if not is_vector and array.shape == (rows, 1):
        array = array[:, 0]
    if array.ndim != 1 + is_vector:
        expected = "one vector" if is_vector else "one number"
        raise UserError(f"{key!r} in {path} have shape {list(array.shape)}, not {expected} a row")
    if key in ("terminals", "timeouts"):
        return array != 0
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind == "f" or key == "rewards":
        return array.astype(np.float32)
    raise UserError(f"{key!r} in {path} are {array.dtype}, not floating-point numbers")
