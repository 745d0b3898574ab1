"""Reading Minari datasets, with h5py itself, in one pass; only their HDF5 format."""

import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from tqdm import tqdm

from iql_jax.data.episodes import Episodes, Source
from iql_jax.data.maze_task import MAZE_ENTRIES, maze_kind
from iql_jax.data.metadata import (
    AGAIN,
    DiscreteActions,
    action_space,
    observation_entries,
    read_metadata,
)
from iql_jax.data.scores import minari_references
from iql_jax.envs.specs import parse_spec
from iql_jax.utils.arrays import Float32
from iql_jax.utils.errors import UserError

_RawEpisode = dict[str, npt.NDArray[Any]]
"""The arrays of one episode: 'observations' or 'observations/...', and the step fields."""

_NUMBERS = ("rewards", "terminations")  # One a step.
_STEP_FIELDS = ("actions", *_NUMBERS)


def read_minari(path: pathlib.Path, progress: bool = True) -> Source:
    """Reads a whole Minari dataset from its folder, which holds ``data/``.

    Raises:
        UserError: as ``read_episodes``, or if a maze's environment specification is broken.
    """
    metadata = read_metadata(path)
    episodes = read_episodes(path, metadata, progress)
    text = metadata.get("eval_env_spec") or metadata.get("env_spec")
    evaluation, reason = _spec(text)
    if text and evaluation is None and set(episodes.observations) >= MAZE_ENTRIES:
        raise UserError(reason)
    collection, _ = _spec(metadata.get("env_spec"))
    references, notes = minari_references(metadata), list[str]()
    if references and evaluation and evaluation.name == "AdroitHandPen":
        notes.append("reference scores are for episodes of 100 steps (Minari issue 286)")
    return Source(
        name=metadata["dataset_id"],
        episodes=episodes,
        evaluation=evaluation,
        no_environment=reason,
        collection=collection if collection is not None and maze_kind(collection) else None,
        action_space=action_space(metadata),
        references=references,
        requirements=tuple(metadata.get("requirements") or ()),
        about={"collection": metadata.get("collection")},
        notes=tuple(notes),
    )


def _spec(text: str | None) -> tuple[EnvSpec | None, str]:
    """Returns a specification, or why there is none."""
    if not text:
        return None, "it names no environment"
    try:
        return parse_spec(text), ""
    except UserError as error:
        return None, str(error)


def read_episodes(path: pathlib.Path, metadata: dict[str, Any], progress: bool = True) -> Episodes:
    """Reads the episodes of a Minari dataset.

    Raises:
        UserError: if a file is damaged, the dataset is empty, its arrays do not fit together or
            are no vectors, or a value is not finite; names the episode and the field.
    """
    name = f"dataset {metadata['dataset_id']}"
    total = metadata["total_episodes"]
    if total < 1:
        raise UserError(f"{name} has no episodes: {AGAIN}")
    declared, entries = action_space(metadata), observation_entries(metadata)
    if (data_format := metadata.get("data_format", "hdf5")) != "hdf5":
        raise UserError(f"{name} is in the {data_format} format; write it in Minari's hdf5 format")
    raw = _hdf5_episodes(path / "data" / "main_data.hdf5", total, name)
    bar = tqdm(raw, f"reading {name}", total=total, unit="episode", disable=not progress)
    episodes = _join(bar, name, is_discrete=isinstance(declared, DiscreteActions))
    width = episodes.actions.shape[1]
    expected = 1 if isinstance(declared, DiscreteActions) else declared and declared.low.size
    if expected not in (None, width):
        raise UserError(
            f"{name} holds actions of {width} numbers, but its action space has {expected}: {AGAIN}"
        )
    widths = {key: array.shape[1] for key, array in episodes.observations.items()}
    if entries is not None and widths != (said := {key: n for key, (n, _) in entries.items()}):
        raise UserError(
            f"{name} holds observations of {widths} numbers, but its observation space has {said}: "
            f"{AGAIN}"
        )
    found = len(episodes.rewards)
    if (promised := metadata.get("total_steps", found)) != found:
        raise UserError(
            f"{name}: its metadata promise {promised} transitions, there are {found}: {AGAIN}"
        )
    return episodes


def _hdf5_episodes(file_path: pathlib.Path, total: int, name: str) -> Iterator[_RawEpisode]:
    """Yields the arrays of each episode, with the fields and types of the first."""
    try:
        file = h5py.File(file_path, "r")
    except OSError as error:
        raise UserError(f"{name}: {file_path} cannot be opened ({error}): {AGAIN}") from error
    with file:
        fields: list[str] = []
        types: dict[str, tuple[np.dtype[Any], h5py.h5t.TypeID]] = {}
        for e in range(total):
            field = "its group"
            try:
                # h5py's low-level interface is four times as fast for many small arrays.
                group = h5py.h5g.open(file.id, f"episode_{e}".encode())
                fields = fields or [*_observation_entries(file["episode_0"]), *_STEP_FIELDS]
                arrays = {}
                for field in fields:
                    stored = h5py.h5d.open(group, field.encode())
                    if field not in types:
                        dtype = np.dtype(_READ_AS.get(stored.dtype.kind, stored.dtype))
                        types[field] = dtype, h5py.h5t.py_create(dtype)
                    dtype, memory_type = types[field]
                    arrays[field] = np.empty(stored.shape, dtype)
                    stored.read(h5py.h5s.ALL, h5py.h5s.ALL, arrays[field], memory_type)
            except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
                where = f"episode {e}, {field}"
                raise UserError(f"{name}: {where} cannot be read ({error}): {AGAIN}") from error
            yield arrays


def _observation_entries(episode: h5py.Group) -> list[str]:
    """Returns the paths of an episode's observation arrays: 'observations' or 'observations/x'."""
    if isinstance(episode["observations"], h5py.Dataset):
        return ["observations"]
    found: list[str] = []

    def visit(key: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            found.append(f"observations/{key}")

    episode["observations"].visititems(visit)
    return found


_READ_AS: dict[str, Any] = {"f": np.float32, "i": np.int64, "u": np.int64, "b": np.bool_}
"""By the kind of what is stored: the type that HDF5 converts it to."""


def _join(raw: Iterable[_RawEpisode], name: str, *, is_discrete: bool) -> Episodes:
    """Checks episodes one by one, and lays them end to end."""
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    lengths = []
    for e, episode in enumerate(raw):
        lengths.append(_check_episode(episode, f"{name}: episode {e}", is_discrete))
        for field, array in episode.items():
            parts.setdefault(field, []).append(array)
    counts = np.array(lengths, dtype=np.int64)
    joined = {field: _join_field(parts.pop(field), name, field) for field in list(parts)}
    actions, rewards, terminations = (joined.pop(field) for field in _STEP_FIELDS)
    is_dict = "observations" not in joined
    rows = np.arange(counts.sum()) + np.repeat(np.arange(len(counts)), counts)
    return Episodes(
        observations={
            field.removeprefix("observations/") if is_dict else "observation": array
            for field, array in joined.items()
        },
        rows=rows,
        next_rows=rows + 1,
        actions=actions,
        rewards=rewards[:, 0],
        terminations=terminations[:, 0] != 0,
        lengths=counts,
        is_dict=is_dict,
    )


def _join_field(arrays: list[npt.NDArray[Any]], name: str, field: str) -> Float32:
    """Lays one field's arrays end to end, [rows, d], and refuses numbers that are not finite."""
    if len({array.shape[1:] for array in arrays}) > 1:
        raise UserError(f"{name}: {field} have several widths: {AGAIN}")
    with np.errstate(over="ignore"):  # An overflow is inf, which is reported as such.
        joined = np.concatenate(arrays, dtype=np.float32, casting="unsafe")
    joined = joined[:, None] if joined.ndim == 1 else joined
    if not np.isfinite(joined).all():
        row, column = np.argwhere(~np.isfinite(joined))[0]
        ends = np.cumsum([len(array) for array in arrays])
        e = int(np.searchsorted(ends, row, side="right"))
        step = row - ends[e] + len(arrays[e])
        raise UserError(
            f"{name}: episode {e}, {field} holds {joined[row, column]} at step {step} (component "
            f"{column}), no finite float32 number: {AGAIN}"
        )
    return joined


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
        if len(array) != length + (field not in _STEP_FIELDS):
            raise UserError(
                f"{where} has {len(array)} rows of {field} for {length} rewards: {AGAIN}"
            )
        if field in _NUMBERS and array.size != length:
            raise UserError(f"{where}: {field} have {array.shape[1]} columns, not one")
    return length
