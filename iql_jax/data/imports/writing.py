"""Writing rows as a local Minari dataset: whole, or not at all."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import gymnasium as gym
import numpy as np
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_dataset import parse_dataset_id
from minari.dataset.minari_storage import MinariStorage
from tqdm import tqdm

from iql_jax import __version__
from iql_jax.data.find import datasets_root
from iql_jax.data.imports.ant_model import write_ant_model
from iql_jax.data.imports.rows import Rows
from iql_jax.data.imports.target import Target
from iql_jax.generation.storage import (
    BYTES_PER_ARRAY,
    add_episodes,
    check_place,
    is_complete,
    new_dataset,
)
from iql_jax.generation.workspace import open_workspace
from iql_jax.utils.errors import UserError

_BATCH_STEPS = 50_000
_BATCH_EPISODES = 200
_ARRAYS_PER_EPISODE = {"flat": 5, "point": 7, "ant": 7}


def check_id(dataset_id: str, force: bool) -> None:
    """Refuse an id that is malformed, reserved, or taken already unless ``force`` is set.

    Raises:
        UserError: saying which, and as ``check_place``.
    """
    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:  # TypeError: the version is missing.
        raise UserError(
            f"--id {dataset_id!r} is no dataset id; ids look like 'd4rl/hopper/medium-v2', with "
            "the version"
        ) from error
    if dataset_id.partition("/")[0] == "iql":
        raise UserError(f"--id {dataset_id}: iql/ is for the package's own datasets")
    if is_complete(dataset_id) and not force:
        raise UserError(f"{dataset_id} exists in {datasets_root()}; --force replaces it")
    check_place(dataset_id)


def data_folder(dataset_id: str) -> pathlib.Path:
    """Where the dataset's files will be; absolute, for it is written into the metadata."""
    return (datasets_root() / dataset_id / "data").absolute()


def write_dataset(
    dataset_id: str,
    rows: Rows,
    target: Target,
    metadata: dict[str, Any],
    *,
    progress: bool = True,
    check: Callable[[], None] | None = None,
) -> pathlib.Path:
    """Write a dataset, in place of one of the same id.

    Args:
        dataset_id: its id.
        rows: the steps.
        target: layout, environment and references.
        metadata: entries to add to the dataset's metadata.
        progress: whether to show a progress bar.
        check: called now and then; what it raises ends the writing, and nothing remains.

    Returns:
        The dataset's folder.

    Raises:
        UserError: if the disk is full, the folder cannot be written, or another process is writing
            a dataset of this id.
    """
    first, last = rows.bounds()
    dim, action_dim = rows.observations.shape[1], rows.actions.shape[1]
    action_type: Any = rows.actions.dtype.type
    with (
        open_workspace(dataset_id, "import") as workspace,
        new_dataset(
            dataset_id,
            workspace.folder,
            env_spec=cast(Any, target.spec),  # Minari takes None as well.
            observation_space=target.observation_space(dim, rows.observations.dtype),
            action_space=gym.spaces.Box(-1.0, 1.0, (action_dim,), action_type),
            expected_bytes=_expected_bytes(rows, target, len(first)),
        ) as storage,
        tqdm(
            total=rows.num_transitions,
            desc=f"writing {dataset_id}",
            unit="step",
            disable=not progress,
        ) as bar,
    ):
        for batch in _batches(_episodes(rows, target, first.tolist(), last.tolist())):
            if check is not None:
                check()
            add_episodes(storage, batch)
            bar.update(sum(len(episode) for episode in batch))
        if target.layout == "ant":
            write_ant_model(storage.data_path)
        _finish(storage, target, metadata)
    return datasets_root() / dataset_id


def _batches(episodes: Iterator[EpisodeBuffer]) -> Iterator[list[EpisodeBuffer]]:
    batch: list[EpisodeBuffer] = []
    for episode in episodes:
        batch.append(episode)
        if len(batch) == _BATCH_EPISODES or sum(map(len, batch)) >= _BATCH_STEPS:
            yield batch
            batch = []
    if batch:
        yield batch


def _episodes(
    rows: Rows, target: Target, first: list[int], last: list[int]
) -> Iterator[EpisodeBuffer]:
    for start, end in zip(first, last, strict=True):
        steps = slice(start, end + 1)
        ends = np.zeros(end + 1 - start, dtype=np.bool_)
        ends[-1] = True
        yield EpisodeBuffer(
            observations=cast(Any, target.observations(rows.episode_observations(start, end))),
            actions=cast(Any, rows.actions[steps]),
            rewards=cast(Any, rows.rewards[steps]),
            terminations=cast(Any, rows.terminals[steps]),
            truncations=cast(Any, ends & ~rows.terminals[steps]),
        )


def _finish(storage: MinariStorage, target: Target, metadata: dict[str, Any]) -> None:
    entries: dict[str, Any] = {"imported_by": f"iql_jax {__version__}", **metadata}
    if target.spec is not None:
        entries["eval_env_spec"] = target.spec.to_json()
        entries["requirements"] = list(target.requirements)
    if target.references is not None:
        entries["ref_min_score"], entries["ref_max_score"] = target.references
    storage.update_metadata(entries)


def _expected_bytes(rows: Rows, target: Target, episodes: int) -> int:
    """Bound the size of the file."""
    numbers = rows.observations.shape[1] + (0 if target.maze is None else 4)
    width = 8 if target.maze is not None else rows.observations.dtype.itemsize
    step = numbers * width + rows.actions.dtype.itemsize * rows.actions.shape[1]
    step += rows.rewards.dtype.itemsize + 2
    observations = rows.num_transitions + episodes
    return observations * step + episodes * _ARRAYS_PER_EPISODE[target.layout] * BYTES_PER_ARRAY
