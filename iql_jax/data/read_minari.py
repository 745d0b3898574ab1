"""Reading Minari datasets, with h5py itself, in one pass; only their HDF5 format."""

import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from tqdm import tqdm

from iql_jax.data.episodes import Episodes, Source
from iql_jax.data.maze_task import maze_kind
from iql_jax.data.metadata import (
    AGAIN,
    DiscreteActions,
    action_space,
    read_metadata,
    unmet_requirements,
)
from iql_jax.data.scores import minari_references
from iql_jax.envs.specs import parse_spec
from iql_jax.utils.arrays import Float32, Int64
from iql_jax.utils.errors import UserError

_RawEpisode = dict[str, npt.NDArray[Any]]
"""The arrays of one episode: 'observations' or 'observations/...', and the step fields."""

_NUMBERS = ("rewards", "terminations")  # One a step.
_STEP_FIELDS = ("actions", *_NUMBERS)
_MAZE_ENTRIES = {"observation", "achieved_goal", "desired_goal"}


def read_minari(path: pathlib.Path, progress: bool = True) -> Source:
    """Reads a whole Minari dataset.

    Args:
        path: the dataset's folder, which holds ``data/``.
        progress: whether to show a progress bar.

    Raises:
        UserError: as ``read_episodes``, or if the observations are a maze's and what they mean
            cannot be told, for the environment's specification is broken.
    """
    metadata = read_metadata(path)
    episodes = read_episodes(path, metadata, progress)
    evaluation, reason = None, "it names no environment"
    collection = _spec_or_none(metadata.get("env_spec"))
    try:
        if text := metadata.get("eval_env_spec") or metadata.get("env_spec"):
            evaluation = parse_spec(text)
    except UserError as error:
        if set(episodes.observations) >= _MAZE_ENTRIES:
            raise
        reason = str(error)
    low, high = minari_references(metadata)
    notes = unmet_requirements(metadata)
    if low is not None and high is not None and not high > low:
        notes.append(f"no score: the reference scores do not rise, from {low} (random) to {high}")
        low = high = None
    return Source(
        name=str(metadata["dataset_id"]),
        episodes=episodes,
        evaluation=evaluation,
        no_environment=reason,
        collection=collection if collection is not None and maze_kind(collection) else None,
        action_space=action_space(metadata),
        references=None if low is None or high is None else (float(low), float(high)),
        requirements=tuple(map(str, metadata.get("requirements") or ())),
        about={"collection": metadata.get("collection")},
        notes=tuple(notes),
    )


def _spec_or_none(text: str | None) -> EnvSpec | None:
    try:
        return parse_spec(text) if text else None
    except UserError:
        return None


def read_episodes(path: pathlib.Path, metadata: dict[str, Any], progress: bool = True) -> Episodes:
    """Reads the episodes of a Minari dataset.

    Raises:
        UserError: if a file is truncated or corrupt, the dataset is empty, its actions are neither
            vectors nor of a discrete space, an observation is no vector, an episode's arrays do not
            fit together, or a value is not finite; says which episode and field.
    """
    name = f"dataset {metadata['dataset_id']}"
    total = metadata["total_episodes"]
    if not isinstance(total, int) or total < 1:
        raise UserError(f"{name} has no episodes; its metadata name {total!r}: {AGAIN}")
    declared = action_space(metadata)
    if (data_format := metadata.get("data_format", "hdf5")) != "hdf5":
        raise UserError(f"{name} is in the {data_format} format; write it in Minari's hdf5 format")
    raw = _hdf5_episodes(path / "data" / "main_data.hdf5", total, name)
    bar = tqdm(raw, f"reading {name}", total=total, unit="episode", disable=not progress)
    episodes = _join(bar, name, is_discrete=isinstance(declared, DiscreteActions))
    found = episodes.actions.shape[1]
    if declared is not None and found != declared.columns:
        raise UserError(
            f"{name} holds actions of {found} numbers, but its action space has "
            f"{declared.columns}: {AGAIN}"
        )
    promised = metadata.get("total_steps", episodes.num_transitions)
    if promised != episodes.num_transitions:
        raise UserError(
            f"{name}: its metadata promise {promised} transitions, there are "
            f"{episodes.num_transitions}: {AGAIN}"
        )
    return episodes


def _hdf5_episodes(file_path: pathlib.Path, total: int, name: str) -> Iterator[_RawEpisode]:
    """Yields the arrays of each episode, with the same fields in all."""
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
        readers: dict[str, Callable[[h5py.h5g.GroupID], npt.NDArray[Any]]] = {}
        for e in range(total):
            field = "its group"
            try:
                group = h5py.h5g.open(file.id, f"episode_{e}".encode())
                if e == 0:
                    fields = [*_observation_entries(file["episode_0"]), *_STEP_FIELDS]
                    readers = {field: _array_reader(field) for field in fields}
                arrays = {}
                for field, read in readers.items():
                    arrays[field] = read(group)
            except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
                where = f"episode {e}, {field}"
                raise UserError(f"{name}: {where} cannot be read ({error}): {AGAIN}") from error
            yield arrays


def _observation_entries(episode: h5py.Group) -> list[str]:
    """Returns the paths of an episode's observation arrays: 'observations' or 'observations/x'."""
    if isinstance(episode["observations"], h5py.Dataset):
        return ["observations"]
    found: list[str] = []
    episode["observations"].visititems(
        lambda key, node: (
            found.append(f"observations/{key}") if isinstance(node, h5py.Dataset) else None
        )
    )
    return found


_READ_AS: dict[int, Any] = {
    h5py.h5t.FLOAT: np.dtype(np.float32),
    h5py.h5t.INTEGER: np.dtype(np.int64),
    h5py.h5t.ENUM: np.dtype(np.bool_),
}
"""By the class of what is stored: the type that HDF5 converts it to."""


def _array_reader(path: str) -> Callable[[h5py.h5g.GroupID], npt.NDArray[Any]]:
    """Returns what reads the array at a path of an episode's group, as the first one's type is.

    h5py's low-level interface is four times as fast for many small arrays.
    """
    name, dtype, memory_type = path.encode(), None, None

    def read(group: h5py.h5g.GroupID) -> npt.NDArray[Any]:
        nonlocal dtype, memory_type
        node = h5py.h5d.open(group, name)
        if dtype is None:
            dtype = _READ_AS.get(node.get_type().get_class(), node.dtype)
            memory_type = h5py.h5t.py_create(dtype)
        array = np.empty(node.shape, dtype)
        node.read(h5py.h5s.ALL, h5py.h5s.ALL, array, memory_type)
        return array

    return read


def _join(raw: Iterable[_RawEpisode], name: str, *, is_discrete: bool) -> Episodes:
    """Checks episodes one by one, and lay them end to end."""
    parts: dict[str, list[Float32]] = {}
    lengths = []
    for e, episode in enumerate(raw):
        lengths.append(_check_episode(episode, f"{name}: episode {e}", is_discrete))
        with np.errstate(over="ignore"):  # An overflow is inf, which is reported as such.
            for field, array in episode.items():
                flat = array.astype(np.float32, copy=False)
                parts.setdefault(field, []).append(flat[:, None] if flat.ndim == 1 else flat)
    counts = np.array(lengths, dtype=np.int64)
    joined = {}
    for field, arrays in parts.items():
        if len({array.shape[1] for array in arrays}) > 1:
            raise UserError(f"{name}: {field} have several widths: {AGAIN}")
        joined[field] = np.concatenate(arrays)
        _check_finite(joined[field], counts, field, name)
    is_dict = "observations" not in joined
    rows = np.arange(counts.sum()) + np.repeat(np.arange(len(counts)), counts)
    return Episodes(
        observations={
            field.removeprefix("observations/") if is_dict else "observation": array
            for field, array in joined.items()
            if field not in _STEP_FIELDS
        },
        rows=rows,
        next_rows=rows + 1,
        actions=joined["actions"],
        rewards=joined["rewards"][:, 0],
        terminations=joined["terminations"][:, 0] != 0,
        lengths=counts,
        is_dict=is_dict,
    )


def _check_episode(arrays: _RawEpisode, where: str, is_discrete: bool) -> int:
    """Refuses arrays that do not fit together; returns how many transitions they make up."""
    if arrays["actions"].dtype.kind not in ("iu" if is_discrete else "f"):
        expected = "integers" if is_discrete else "continuous"
        raise UserError(f"{where}: actions are {arrays['actions'].dtype}, not {expected}")
    length = len(arrays["rewards"]) if arrays["rewards"].ndim else 0
    if length == 0:
        raise UserError(f"{where} has no transitions: {AGAIN}")
    for field, array in arrays.items():
        if array.dtype.kind not in "fiub" or array.ndim not in (1, 2):
            raise UserError(
                f"{where}, {field} has shape {list(array.shape)} and type {array.dtype}; only "
                "vectors of numbers are supported"
            )
        is_observation = field not in _STEP_FIELDS
        if len(array) != length + is_observation:
            promised = "one more than rewards" if is_observation else "as many as rewards"
            raise UserError(
                f"{where} has {len(array)} rows of {field} for {length} rewards, not {promised}: "
                f"{AGAIN}"
            )
        if field in _NUMBERS and array.size != length:
            raise UserError(f"{where}: {field} have {array.shape[1]} columns, not one")
    return length


def _check_finite(array: Float32, lengths: Int64, field: str, name: str) -> None:
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
