"""Minari datasets as flat arrays: all episodes end to end, in float32.

HDF5 files are read with h5py itself, in one pass; the Arrow formats through Minari.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from iql_jax.data.metadata import AGAIN, DiscreteActions, action_space, read_metadata
from iql_jax.utils.errors import UserError

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class FlatEpisodes:
    """E episodes with N transitions in all, laid end to end.

    An episode of T transitions has T + 1 observations, so observations have E rows more than the
    other arrays: transition i starts at row ``step_index()[i]`` and leads to the row after it.

    Attributes:
        observations: [N + E, d] float32 for each entry of the observations; a dataset whose
            observations are single arrays has the one entry 'observation', an entry of a nested
            Dict is called 'outer/inner'.
        actions: [N, action_dim] float32, as stored: of a discrete space, [N, 1] integers.
        rewards: [N] float32, as stored.
        terminations: [N] bool.
        truncations: [N] bool.
        lengths: [E] int64, transitions in each episode; their sum is N.
        is_dict: whether the dataset's observations are Dicts and not single arrays.
    """

    observations: dict[str, FloatArray]
    actions: FloatArray
    rewards: FloatArray
    terminations: BoolArray
    truncations: BoolArray
    lengths: IntArray
    is_dict: bool

    @property
    def num_transitions(self) -> int:
        """N."""
        return int(self.rewards.shape[0])

    @property
    def num_episodes(self) -> int:
        """E."""
        return int(self.lengths.shape[0])

    def episode_index(self) -> IntArray:
        """The episode of each transition, [N]."""
        return np.repeat(np.arange(self.num_episodes), self.lengths)

    def step_index(self) -> IntArray:
        """The row of each transition's observation, [N]; its next observation is one row on."""
        return np.arange(self.num_transitions) + self.episode_index()

    def first_steps(self) -> IntArray:
        """The first transition of each episode, [E]."""
        return np.cumsum(self.lengths) - self.lengths


def read_episodes(path: pathlib.Path, progress: bool = True) -> FlatEpisodes:
    """Read a whole Minari dataset.

    Args:
        path: the dataset's folder, which holds ``data/``.
        progress: whether to show a progress bar.

    Raises:
        UserError: if a file is truncated or corrupt, the dataset is empty, its actions are neither
            vectors nor of a discrete space, an observation is no vector, an episode's arrays do not
            fit together, or a value is not finite; says which episode and field.
    """
    metadata = read_metadata(path)
    name = f"dataset {metadata['dataset_id']}"
    total = metadata["total_episodes"]
    if not isinstance(total, int) or total < 0:
        raise UserError(f"{name} names {total!r} as its number of episodes: {AGAIN}")
    if total == 0:
        raise UserError(f"{name} has no episodes: {AGAIN}")
    declared = action_space(metadata)
    if metadata.get("data_format", "hdf5") == "hdf5":
        raw = _hdf5_episodes(path / "data" / "main_data.hdf5", total, name)
    else:
        raw = _minari_episodes(path / "data", metadata, name)
    bar = tqdm(raw, f"reading {name}", total=total, unit="episode", disable=not progress)
    episodes = _join(bar, total, name, is_discrete=isinstance(declared, DiscreteActions))
    found = episodes.actions.shape[1]
    if declared is not None and found != declared.columns:
        raise UserError(
            f"{name} holds actions of {found} numbers, but its action space has "
            f"{declared.columns}: {AGAIN}"
        )
    return episodes


_RawEpisode = dict[str, npt.NDArray[Any]]
"""The arrays of one episode: 'observations' or 'observations/...', and the step fields."""

_NUMBERS = ("rewards", "terminations", "truncations")  # One a step.
_STEP_FIELDS = ("actions", *_NUMBERS)


def _hdf5_episodes(file_path: pathlib.Path, total: int, name: str) -> Iterator[_RawEpisode]:
    """Yield the arrays of each episode, with the same fields in all."""
    if not file_path.is_file():
        raise UserError(f"{name} is incomplete, {file_path} is missing: {AGAIN}")
    try:
        file = h5py.File(file_path, "r")
    except OSError as error:
        raise UserError(f"{name}: {file_path} cannot be opened ({error}): {AGAIN}") from error
    with file:
        if len(file) != total:
            raise UserError(
                f"{name} is incomplete, its metadata promise {total} episodes and {file_path} "
                f"holds {len(file)}: {AGAIN}"
            )
        entries: list[str] = []
        for e in range(total):
            field = "its group"
            try:
                group = h5py.h5g.open(file.id, f"episode_{e}".encode())
                if e == 0:
                    entries = _entries(file["episode_0"])
                arrays = {}
                for field in (*entries, *_STEP_FIELDS):
                    arrays[field] = _read_array(group, field)
            except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
                where = f"episode {e}, {field}"
                raise UserError(f"{name}: {where} cannot be read ({error}): {AGAIN}") from error
            yield arrays


def _entries(episode: h5py.Group) -> list[str]:
    """Paths of an episode's observation arrays: 'observations', or 'observations/x' and so on."""
    if isinstance(episode["observations"], h5py.Dataset):
        return ["observations"]
    found: list[str] = []
    episode["observations"].visititems(
        lambda key, node: (
            found.append(f"observations/{key}") if isinstance(node, h5py.Dataset) else None
        )
    )
    return found


def _read_array(group: h5py.h5g.GroupID, path: str) -> npt.NDArray[Any]:
    """Read one array; the low-level interface is twice as fast for the many small ones here."""
    node = h5py.h5d.open(group, path.encode())
    array = np.empty(node.shape, node.dtype)
    node.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    return array


def _leaves(node: Any, path: str) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """All arrays of a nested dict, as ('observations/outer/inner', array)."""
    if isinstance(node, dict):
        for key, child in node.items():
            yield from _leaves(child, f"{path}/{key}")
    else:
        yield path, np.asarray(node)


def _minari_episodes(
    data_path: pathlib.Path, metadata: dict[str, Any], name: str
) -> Iterator[_RawEpisode]:
    """Yield episodes through Minari's own storage classes, which know the Arrow formats."""
    # Minari's MinariStorage.read builds the environment where the metadata lack a space, and so
    # imports whatever module they name; its storage classes by themselves do not.
    from minari.dataset._storages import get_minari_storage
    from minari.serialization import deserialize_space

    data_format = metadata["data_format"]
    try:
        storage = get_minari_storage(data_format)(
            data_path,
            deserialize_space(metadata["observation_space"]),
            deserialize_space(metadata["action_space"]),
            jpeg_encoding=bool(metadata.get("jpeg_encoding", True)),
        )
    except ImportError as error:
        raise UserError(f"{name} is in the {data_format} format: {error}") from error
    except Exception as error:  # Of broken spaces Minari raises whatever comes.
        raise UserError(f"{name} in the {data_format} format cannot be read: {error}") from error
    e = 0
    indices = range(int(metadata["total_episodes"]))
    try:
        promised = storage.get_episode_metadata(indices)
        for episode, about in zip(storage.get_episodes(indices), promised, strict=False):
            steps = len(episode["rewards"])
            if steps != about.get("total_steps", steps):
                # It takes each of Arrow's batches for an episode; they hold 32,768 rows at most.
                raise UserError(
                    f"{name}: episode {e} has {about['total_steps']} steps, of which Minari reads "
                    f"{steps}: in the {data_format} format it cuts episodes of 32,768 steps or "
                    "more; write the dataset as hdf5"
                )
            arrays = dict(_leaves(episode["observations"], "observations"))
            yield arrays | {field: np.asarray(episode[field]) for field in _STEP_FIELDS}
            e += 1
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{name}: episode {e} cannot be read ({error}): {AGAIN}") from error


def _join(raw: Iterable[_RawEpisode], total: int, name: str, *, is_discrete: bool) -> FlatEpisodes:
    """Check episodes one by one, and lay them end to end."""
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    lengths = []
    for e, arrays in enumerate(raw):
        where = f"{name}: episode {e}"
        if arrays["actions"].dtype.kind not in ("iu" if is_discrete else "f"):
            expected = "integers" if is_discrete else "continuous"
            raise UserError(f"{where}: actions are {arrays['actions'].dtype}, not {expected}")
        vectors = {field: _vectors(array, f"{where}, {field}") for field, array in arrays.items()}
        length = len(vectors["rewards"])
        if length == 0:
            raise UserError(f"{where} has no transitions: {AGAIN}")
        for field, array in vectors.items():
            is_observation = field not in _STEP_FIELDS
            if len(array) != length + is_observation:
                promised = "one more than rewards" if is_observation else "as many as rewards"
                raise UserError(
                    f"{where} has {len(array)} rows of {field} for {length} rewards, not "
                    f"{promised}: {AGAIN}"
                )
            if field in _NUMBERS and array.shape[1] != 1:
                raise UserError(f"{where}: {field} have {array.shape[1]} columns, not one")
            earlier = parts.setdefault(field, [])
            if earlier and array.shape[1] != earlier[0].shape[1]:
                raise UserError(f"{where}: {field} has another width than in episode 0")
            earlier.append(array)
        lengths.append(length)
    if len(lengths) != total:
        raise UserError(f"{name} has {len(lengths)} of {total} episodes: {AGAIN}")
    joined = {field: np.concatenate(parts.pop(field)) for field in list(parts)}
    counts = np.array(lengths, dtype=np.int64)
    for field, array in joined.items():
        _check_finite(array, counts, field, name)
    return FlatEpisodes(
        observations=_without_prefix(joined),
        actions=joined["actions"],
        rewards=joined["rewards"][:, 0],
        terminations=joined["terminations"][:, 0] != 0,
        truncations=joined["truncations"][:, 0] != 0,
        lengths=counts,
        is_dict="observations" not in joined,
    )


def _without_prefix(joined: dict[str, npt.NDArray[Any]]) -> dict[str, FloatArray]:
    """Name observation entries: 'observations/x' becomes 'x', a lone array 'observation'."""
    if "observations" in joined:
        return {"observation": joined["observations"]}
    prefix = "observations/"
    return {key.removeprefix(prefix): joined[key] for key in joined if key.startswith(prefix)}


def _vectors(array: npt.NDArray[Any], where: str) -> FloatArray:
    """One vector a row, in float32; refuses images, texts and the like."""
    if array.dtype.kind not in "fiub" or array.ndim not in (1, 2):
        raise UserError(
            f"{where} has shape {list(array.shape)} and type {array.dtype}; only vectors of "
            "numbers are supported"
        )
    with np.errstate(over="ignore"):  # An overflow is inf, which is reported as such.
        flat = array.astype(np.float32, copy=False)
    return flat[:, None] if flat.ndim == 1 else flat


def _check_finite(array: FloatArray, lengths: IntArray, field: str, name: str) -> None:
    if np.isfinite(array).all():
        return
    row, column = np.argwhere(~np.isfinite(array))[0]
    rows = lengths + 1 if field not in _STEP_FIELDS else lengths
    ends = np.cumsum(rows)
    e = int(np.searchsorted(ends, row, side="right"))
    step = row - (ends[e] - rows[e])
    raise UserError(
        f"{name}: episode {e}, {field} holds {array[row, column]} at step {step} (component "
        f"{column}), no finite float32 number: {AGAIN}"
    )
