"""The start of a run: its folder is locked, its data are found and loaded, its record written."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from iql_jax.algorithm import NEEDS_NEXT_ACTIONS, IQLState, create_state
from iql_jax.data.load import Arrays, Dataset, load_dataset
from iql_jax.envs.description import Layout
from iql_jax.generation.provide import Provided, provide
from iql_jax.outputs.checkpoints import read_newest
from iql_jax.outputs.folder import RunFolder, read_record, started_with
from iql_jax.outputs.logs import require_wandb
from iql_jax.training.compilation import check_precision
from iql_jax.training.config import Config, complete
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError

IN_MEMORY = Provided("data", "data", "memory")
"""Arrays of a caller."""

Loaded = tuple[Provided, Dataset]
"""A dataset that the caller has found and loaded already."""


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run that is open."""

    config: Config
    folder: Path
    record: dict[str, Any]  # The run record, as ``config.json`` has it.
    dataset: Dataset
    started: float  # ``time.perf_counter()`` when it was opened.
    startup: dict[str, float]  # Seconds that parts of the start took, for ``summary.json``.


@contextlib.contextmanager
def open_run(
    config: Config,
    workdir: Path,
    beside: Path | None = None,
    data: Arrays | None = None,
    loaded: Loaded | None = None,
) -> Iterator[Run]:
    """Opens a new run, or one that was started in this folder with the same settings and data.

    A new run shares the data of the run in the folder ``beside``. ``data`` take the place of those
    that the config names.
    """
    started = time.perf_counter()
    require_wandb(config.wandb_project)
    check_precision(config.matmul_precision)
    with RunFolder(workdir) as folder:
        folder.check_settings(config.to_dict(), complete)
        if loaded is None:
            folders = [workdir] if beside is None else [workdir, beside]
            provided = IN_MEMORY if data is not None else find_data(config, folders)
            loaded = provided, load_data(config, provided, data)
        provided, dataset = loaded
        startup = {"load_seconds": time.perf_counter() - started}
        folder.claim(config.to_dict(), dataset_record(dataset, provided))
        yield Run(config, workdir, read_record(workdir), dataset, started, startup)


def find_data(config: Config, folders: Sequence[Path]) -> Provided:
    """Finds, downloads or generates a dataset; runs started in these folders keep theirs."""
    was = started_with(config.dataset, folders)
    return provide(
        config.dataset, progress=config.progress, started_with=was, fallback=config.dataset_fallback
    )


def load_data(config: Config, provided: Provided, data: Arrays | None = None) -> Dataset:
    """Loads a dataset that is on this disk, or else ``data``, as the config wants it."""
    started = time.perf_counter()
    dataset = load_dataset(
        config,
        provided.source if data is None else data,
        next_actions=config.objective in NEEDS_NEXT_ACTIONS,
        trusted=config.trust_environment,
        progress=config.progress,
    )
    seconds = time.perf_counter() - started
    logger.info(
        f"{provided.source} ({provided.origin}): {dataset.size:,} transitions in {seconds:.1f} s"
    )
    return dataset


def dataset_record(dataset: Dataset, provided: Provided) -> dict[str, Any]:
    """Returns what the run record says of the data: asked for, found, and every choice made."""
    return {
        **dataset.record,
        "id": provided.source,
        "requested_id": provided.requested,
        "origin": provided.origin,
        "notes": [*provided.notes, *dataset.record["notes"]],
    }


def initial_state(config: Config, layout: Layout) -> IQLState:
    """Returns the learner's state before the first update."""
    return create_state(
        jax.random.key(config.seed),
        layout.observation_dim,
        layout.action_dim,
        config,
        discrete_actions=layout.discrete_start is not None,
    )


def load_state(folder: Path, config: Config, layout: Layout) -> tuple[IQLState, int]:
    """Returns the newest saved state of a run, and its step; raises UserError if there is none."""
    restored = read_newest(folder / "checkpoints", initial_state(config, layout))
    if restored is None:
        raise UserError(f"{folder} holds no checkpoint yet; train it first")
    state, progress = restored
    return state, progress["step"]
