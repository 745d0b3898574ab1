"""Reading D4RL's HDF5 files."""

import dataclasses
import pathlib
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from iql_jax.data.episodes import BoolArray
from iql_jax.utils.errors import UserError

_REQUIRED = ("observations", "actions", "rewards", "terminals")
_OPTIONAL = ("timeouts", "next_observations")
_BLOCK_BYTES = 1 << 24


@dataclasses.dataclass(frozen=True, eq=False)
class D4RLFile:
    """What of a file of N rows is used.

    Attributes:
        observations: [N, d] float32 or float64, as stored.
        actions: [N, a] float32 or float64, as stored.
        rewards: [N] float32 or float64, as stored.
        terminals: [N] bool.
        timeouts: [N] bool, or None where the file has none.
        next_observations: [N, d], or None where the file has none.
        metadata: the numbers and texts under ``metadata/``, by path; the weights of policies that
            lie there as well are left.
    """

    observations: npt.NDArray[Any]
    actions: npt.NDArray[Any]
    rewards: npt.NDArray[Any]
    terminals: BoolArray
    timeouts: BoolArray | None
    next_observations: npt.NDArray[Any] | None
    metadata: dict[str, Any]


def read_d4rl_file(path: pathlib.Path, progress: bool = True) -> D4RLFile:
    """Read a file of D4RL; ``infos/*`` are left, for no transition depends on them.

    Args:
        path: the file.
        progress: whether to show a progress bar.

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
        rows = nodes["observations"].shape[0]
        total = sum(node.size * node.dtype.itemsize for node in nodes.values())
        arrays: dict[str, npt.NDArray[Any]] = {}
        with tqdm(
            total=total,
            desc=f"reading {path.name}",
            unit="B",
            unit_scale=True,
            disable=not progress,
        ) as bar:
            for key, node in nodes.items():
                try:
                    arrays[key] = _read(node, bar)
                except (OSError, RuntimeError, ValueError) as error:
                    raise UserError(
                        f"{key!r} in {path} cannot be read ({error}): get the file again"
                    ) from error
        metadata = _metadata(file)
    arrays = {key: _in_shape(key, array, rows, path) for key, array in arrays.items()}
    for key in ("observations", "actions", "rewards", "next_observations"):
        if key in arrays:
            arrays[key] = _as_float(key, arrays[key], path)
    stored = arrays.get("next_observations")
    if stored is not None and stored.shape != arrays["observations"].shape:
        raise UserError(
            f"'next_observations' in {path} have shape {list(stored.shape)}, but 'observations' "
            f"{list(arrays['observations'].shape)}"
        )
    flags = {key: arrays[key] != 0 for key in ("terminals", "timeouts") if key in arrays}
    return D4RLFile(
        observations=arrays["observations"],
        actions=arrays["actions"],
        rewards=arrays["rewards"],
        terminals=flags["terminals"],
        timeouts=flags.get("timeouts"),
        next_observations=stored,
        metadata=metadata,
    )


def _nodes(file: h5py.File, path: pathlib.Path) -> dict[str, h5py.Dataset]:
    missing = [key for key in _REQUIRED if key not in file]
    if missing:
        found = ", ".join(sorted(file)) or "nothing"
        raise UserError(f"{path} is no file of D4RL: it lacks {', '.join(missing)}, it has {found}")
    nodes = {key: file[key] for key in (*_REQUIRED, *_OPTIONAL) if key in file}
    for key, node in nodes.items():
        if not isinstance(node, h5py.Dataset) or not node.shape or node.dtype.kind not in "fiub":
            raise UserError(f"{key!r} in {path} is no array of numbers")
    if not len(nodes["observations"]):
        raise UserError(f"{path} holds no rows")
    return nodes


def _read(node: h5py.Dataset, bar: tqdm) -> npt.NDArray[Any]:
    """Read an array in blocks of rows, so that the bar can move."""
    array = np.empty(node.shape, node.dtype)
    row_bytes = max(1, array.nbytes // max(1, len(array)))
    block = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, len(array), block):
        part = node[start : start + block]
        array[start : start + block] = part
        bar.update(part.nbytes)
    return array


def _in_shape(key: str, array: npt.NDArray[Any], rows: int, path: pathlib.Path) -> npt.NDArray[Any]:
    """Give vectors as [N, d] and numbers as [N]; D4RL stores some of the latter as [N, 1]."""
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
    return array


def _as_float(key: str, array: npt.NDArray[Any], path: pathlib.Path) -> npt.NDArray[Any]:
    """Keep float32 and float64; whole-number rewards are taken for float32."""
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind == "f" or key == "rewards":
        return array.astype(np.float32)
    raise UserError(f"{key!r} in {path} are {array.dtype}, not floating-point numbers")


def _metadata(file: h5py.File) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.shape == ():
            content = node[()]
            if isinstance(content, bytes):
                found[name] = content.decode(errors="replace")
            elif isinstance(content, np.generic) and content.dtype.kind in "fiub":
                found[name] = content.item()

    if isinstance(file.get("metadata"), h5py.Group):
        file["metadata"].visititems(visit)
    return found
