"""Reading Minari datasets, with h5py itself, in one pass; only their HDF5 format."""

import math
import pathlib
import time
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from tqdm import trange

from iql_jax.data import flat_cache
from iql_jax.data.episodes import Episodes, Source
from iql_jax.data.file_arrays import check_place
from iql_jax.data.find import datasets_root
from iql_jax.data.maze_task import MAZE_ENTRIES, maze_kind
from iql_jax.data.metadata import (
    AGAIN,
    INTEGERS,
    REALS,
    DiscreteActions,
    action_space,
    observation_entries,
    read_metadata,
)
from iql_jax.data.scores import minari_references
from iql_jax.envs.specs import parse_spec
from iql_jax.utils.arrays import Float32, Int64
from iql_jax.utils.errors import UserError
from iql_jax.utils.files import reading

_STEP_FIELDS = ("rewards", "actions", "terminations")
_TOTALS = ("total_episodes", "total_steps")
_LENGTHS = "lengths"  # Of episodes, among the fields.


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
    if metadata["total_episodes"] < 1:
        raise UserError(f"{name} has no episodes: {AGAIN}")
    if (data_format := metadata.get("data_format", "hdf5")) != "hdf5":
        raise UserError(f"{name} is in the {data_format} format; write it in Minari's hdf5 format")
    file_path = path / "data" / "main_data.hdf5"
    with reading(file_path, AGAIN):
        stamp = flat_cache.stamp(file_path, repr(metadata))
    arrays = flat_cache.load(file_path, stamp)
    if arrays is None:
        started = time.perf_counter()
        with reading(file_path, AGAIN), h5py.File(file_path, "r") as file:
            joined, counts, is_own = _read_fields(file, metadata, name, progress)
        arrays = {field: _as_float32(array, counts, name, field) for field, array in joined.items()}
        arrays[_LENGTHS] = counts
        # Of another file, which a link leads to, nothing tells when it changes.
        if is_own and time.perf_counter() - started > flat_cache.SLOW_SECONDS:
            flat_cache.store(file_path, stamp, arrays)
    counts = arrays.pop(_LENGTHS)
    rewards, actions, terminations = (arrays.pop(field) for field in _STEP_FIELDS)
    is_dict = "observations" not in arrays
    rows = np.arange(counts.sum()) + np.repeat(np.arange(len(counts)), counts)
    return Episodes(
        observations={
            field.removeprefix("observations/") if is_dict else "observation": array
            for field, array in arrays.items()
        },
        rows=rows,
        next_rows=rows + 1,
        actions=actions,
        rewards=rewards[:, 0],
        terminations=terminations[:, 0] != 0,
        lengths=counts,
        is_dict=is_dict,
    )


def _expected(metadata: dict[str, Any]) -> dict[str, tuple[int | None, str]]:
    """Returns the width of each field, where it is known, and the kinds of NumPy's types it may be.

    Rewards come first: they tell an episode's length.
    """
    actions = action_space(metadata)
    of_actions: tuple[int | None, str] = 1, INTEGERS
    if not isinstance(actions, DiscreteActions):
        of_actions = None if actions is None else actions.low.size, REALS
    of_steps = (1, REALS + INTEGERS), of_actions, (1, REALS + INTEGERS)
    return {**dict(zip(_STEP_FIELDS, of_steps, strict=True)), **observation_entries(metadata)}


class _Form(NamedTuple):
    """The form in which every episode stores a field."""

    path: bytes  # In an episode's group.
    row: tuple[int, ...]  # The shape of a row.
    extra: int  # Rows more than steps.
    dtype: np.dtype[Any]
    memory_type: h5py.h5t.TypeID


def _read_fields(
    file: h5py.File, metadata: dict[str, Any], name: str, progress: bool
) -> tuple[dict[str, npt.NDArray[Any]], Int64, bool]:
    """Reads each field end to end, and the episodes' lengths; whether all lie in this file."""
    expected, total, promised = _expected(metadata), *(metadata[key] for key in _TOTALS)
    own, root = h5py.h5f.get_name(file.id), datasets_root().resolve()
    forms, joined, lengths = dict[str, _Form](), dict[str, npt.NDArray[Any]](), list[int]()
    start, is_own = 0, True
    for e in trange(total, desc=f"reading {name}", unit="episode", disable=not progress):
        field, steps = "its group", 0
        try:
            # h5py's low-level interface is four times as fast for many small arrays.
            group = h5py.h5g.open(file.id, f"episode_{e}".encode())
            if not forms:
                forms = _forms(file["episode_0"], expected)
                for field, form in forms.items():
                    joined[field] = np.empty((promised + total * form.extra, *form.row), form.dtype)
            for field, form in forms.items():
                stored = h5py.h5d.open(group, form.path)
                is_own &= check_place(stored, own, root)
                shape = stored.shape
                steps = shape[0] if field == "rewards" else steps
                if shape != (steps + form.extra, *form.row) or not steps:
                    raise ValueError(f"its shape is {list(shape)} for {steps} rewards")
                if form.dtype.kind == "i" and stored.dtype.kind not in INTEGERS:
                    raise ValueError(f"its type is {stored.dtype}")
                if start + steps > promised:
                    raise ValueError(f"the metadata promise {promised} transitions, there are more")
                first = start + e * form.extra
                array = joined[field][first : first + shape[0]]
                stored.read(h5py.h5s.ALL, h5py.h5s.ALL, array, form.memory_type)
        except UserError:
            raise
        except MemoryError as error:
            raise UserError(f"{name}: too little memory for {promised:,} transitions") from error
        except Exception as error:
            where = f"episode {e}, {field}"
            raise UserError(f"{name}: {where} cannot be read ({error}): {AGAIN}") from error
        lengths.append(steps)
        start += steps
    if start != promised:
        raise UserError(
            f"{name}: its metadata promise {promised} transitions, there are {start}: {AGAIN}"
        )
    return joined, np.array(lengths, np.int64), is_own


def _forms(episode: h5py.Group, expected: dict[str, tuple[int | None, str]]) -> dict[str, _Form]:
    """Returns the form of each field, from how an episode has it."""
    fields = [*_STEP_FIELDS, *_observation_entries(episode["observations"])]
    if len(expected) > len(_STEP_FIELDS) and set(fields) != set(expected):
        raise ValueError(f"it has {fields}, but its spaces have {list(expected)}")
    forms = {}
    for field in fields:
        stored = episode[field]
        shape, kind = stored.shape, stored.dtype.kind
        width, kinds = expected.get(field, (None, REALS + INTEGERS))
        found = math.prod(shape[1:])
        if kind not in kinds or len(shape) not in (1, 2) or found != (width or found or 1):
            raise ValueError(
                f"{field} have shape {list(shape)} and type {stored.dtype}; rows of "
                f"{width or 'some'} numbers of kind {kinds!r} are expected"
            )
        dtype = np.dtype(_READ_AS[kind])
        form = field.encode(), shape[1:], field not in _STEP_FIELDS, dtype
        forms[field] = _Form(*form, h5py.h5t.py_create(dtype))
    return forms


def _observation_entries(node: Any, path: str = "observations") -> list[str]:
    """Returns the paths of an episode's observation arrays: 'observations' or 'observations/x'."""
    if not path.isprintable():
        raise ValueError(f"{path!r} is no name")
    if isinstance(node, h5py.Dataset):
        return [path]
    return [
        each for key in sorted(node) for each in _observation_entries(node[key], f"{path}/{key}")
    ]


_READ_AS: dict[str, Any] = {"f": np.float32, "i": np.int64, "u": np.int64, "b": np.bool_}
"""By the kind of what is stored: the type that HDF5 converts it to."""


def _as_float32(joined: npt.NDArray[Any], lengths: Int64, name: str, field: str) -> Float32:
    """Returns a field as [rows, d], and refuses numbers that are not finite."""
    with np.errstate(over="ignore"):  # An overflow is inf, which is reported as such.
        joined = joined.reshape(len(joined), -1).astype(np.float32, copy=False)
    if not np.isfinite(joined).all():
        row, column = np.argwhere(~np.isfinite(joined))[0]
        counts = lengths + (field not in _STEP_FIELDS)
        e = int(np.searchsorted(np.cumsum(counts), row, side="right"))
        raise UserError(
            f"{name}: episode {e}, {field} holds {joined[row, column]} at step "
            f"{row - counts[:e].sum()} (component {column}), no finite float32 number: {AGAIN}"
        )
    return joined
