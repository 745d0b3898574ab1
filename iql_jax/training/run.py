"""What every run begins and ends with, whatever happens in between."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from iql_jax.algorithm import AgentConfig, IQLState, create_state, update_n
from iql_jax.algorithm.types import NEEDS_NEXT_ACTIONS, Array, Metrics, Transitions
from iql_jax.data.config import DATA_KEYS
from iql_jax.data.load import Dataset, load_dataset
from iql_jax.envs.lockstep import default_num_envs
from iql_jax.generation.provide import provide
from iql_jax.outputs.checkpoints import read_newest
from iql_jax.outputs.folder import Record, RunFolder, read_record, started_with
from iql_jax.outputs.logs import require_wandb
from iql_jax.populations.mapped import Pool
from iql_jax.training.compilation import compile_program
from iql_jax.training.config import Config, complete
from iql_jax.training.evaluation import RunEvaluation
from iql_jax.training.phases import MAX_STRETCH, Phase, Stretch
from iql_jax.utils import hosts
from iql_jax.utils.console import logger
from iql_jax.utils.errors import NoEnvironment, UserError
from iql_jax.utils.signals import StopRequest


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run that is open: its folder is locked, its data are loaded, its environments wait.

    Attributes:
        config: The settings.
        folder: Where everything about it is kept.
        record: The run's record, as ``config.json`` has it.
        dataset: The data.
        evaluation: Evaluates a state; None to train without.
        started: ``time.perf_counter()`` when it was opened.
        startup: Seconds that parts of the start took, for ``summary.json``.
    """

    config: Config
    folder: Path
    record: Record
    dataset: Dataset
    evaluation: RunEvaluation | None
    started: float
    startup: dict[str, float]

    @property
    def num_envs(self) -> int:
        """How many environments an evaluation steps at once."""
        return default_num_envs(self.config.eval_episodes, self.config.eval_envs)


@contextlib.contextmanager
def may_do_without_environment() -> Iterator[None]:
    """Adds to a missing environment's error what an offline run can do about it."""
    try:
        yield
    except NoEnvironment as error:
        raise UserError(
            f"{error}; --config.eval_episodes=0 trains without it, in a new folder"
        ) from error


@contextlib.contextmanager
def open_run(config: Config, workdir: Path, after: Path | None = None) -> Iterator[Run]:
    """Open a new run, or one that was begun in this folder with the same settings and data.

    Args:
        config: The settings.
        workdir: The run's folder.
        after: The folder of a run that a new one goes on from, on the same data.

    Raises:
        UserError: On anything that the user can mend.
    """
    with contextlib.ExitStack() as stack:
        beside = () if after is None else (after,)
        (run,) = stack.enter_context(open_runs([config], [workdir], beside))
        if config.eval_episodes > 0:
            evaluation = RunEvaluation(config, run.dataset, config.eval_episodes, run.num_envs)
            run = dataclasses.replace(run, evaluation=stack.enter_context(evaluation))
        yield run


@contextlib.contextmanager
def open_runs(
    configs: Sequence[Config], folders: Sequence[Path], beside: Sequence[Path] = ()
) -> Iterator[list[Run]]:
    """Open runs that train together, as yet without evaluation.

    Those whose config names the same data share them. Of several hosts, one locks and writes the
    folders, and the others read.

    Args:
        configs: The settings of each.
        folders: The folder of each.
        beside: Folders of runs with which new ones share their data, where they want the same: the
            run that they go on from, the members of their sweep.

    Raises:
        UserError: On anything that the user can mend.
    """
    started = time.perf_counter()
    config = configs[0]
    require_wandb(config.wandb_project)
    with contextlib.ExitStack() as stack:
        with hosts.writer_first():
            mine: list[RunFolder] = []
            if hosts.is_writer():
                mine = [stack.enter_context(RunFolder(folder)) for folder in folders]
            for folder, settings in zip(mine, configs, strict=False):
                folder.check_settings(settings.to_dict(), complete)
            before = {
                settings.dataset: dataset_id
                for folder, settings in zip(folders, configs, strict=True)
                if (dataset_id := started_with(settings.dataset, [folder, *beside]))
            }
            datasets = _load_datasets(configs, before)
            load_seconds = time.perf_counter() - started
            for folder, settings, dataset in zip(mine, configs, datasets, strict=False):
                folder.claim(settings.to_dict(), dataset.record)
        # Shared by all runs: later entries appear in every summary.
        startup = {"load_seconds": load_seconds}
        yield [
            Run(settings, folder, read_record(folder), dataset, None, started, startup)
            for settings, folder, dataset in zip(configs, folders, datasets, strict=True)
        ]


def load_source(config: Config, source: str = "") -> Dataset:
    """Load a dataset that is on this disk, the config's by default, as the config wants it."""
    return load_dataset(
        config,
        source or config.dataset,
        next_actions=config.objective in NEEDS_NEXT_ACTIONS,
        trusted=config.trust_environment,
        progress=config.progress,
    )


def _load_datasets(configs: Sequence[Config], before: Mapping[str, str]) -> list[Dataset]:
    """Each config's dataset; those that name the same data get the same one.

    Args:
        configs: What the runs want.
        before: What any of them was begun on where it wanted the dataset of this id.

    Raises:
        UserError: If one cannot be loaded, or they have observations or actions of several shapes.
    """
    loaded: dict[tuple[Any, ...], Dataset] = {}
    datasets = []
    for config in configs:
        names = tuple(getattr(config, key) for key in DATA_KEYS)
        if names not in loaded:
            started = time.perf_counter()
            provided = provide(
                config.dataset,
                progress=config.progress,
                started_with=before.get(config.dataset, ""),
            )
            loaded[names] = dataset = load_source(config, provided.source)
            if config.eval_episodes > 0:
                dataset.require_environment()
            dataset.record.update(
                requested_id=provided.requested,
                origin=provided.origin,
                notes=[*provided.notes, *dataset.record["notes"]],
            )
            logger.info(
                f"{provided.source} ({provided.origin}): "
                f"{dataset.size:,} transitions in {time.perf_counter() - started:.1f} s"
            )
        datasets.append(loaded[names])
    shapes = {_shapes(dataset): dataset.record["id"] for dataset in datasets}
    if len(shapes) > 1:
        found = "; ".join(
            f"{name}: {observations} and {actions}"
            for (observations, actions, _), name in shapes.items()
        )
        raise UserError(
            f"observations and actions have different sizes ({found}); --config.population_size=1 "
            "trains one run at a time"
        )
    return datasets


def _shapes(dataset: Dataset) -> tuple[int, int, bool]:
    record = dataset.record
    return record["observation_dim"], record["action_dim"], dataset.discrete_actions


def initial_state(config: Config, dataset: Dataset) -> IQLState:
    """The learner's state before the first update."""
    keys = [field.name for field in dataclasses.fields(AgentConfig) if hasattr(config, field.name)]
    settings = {key: getattr(config, key) for key in keys}
    return create_state(
        jax.random.key(config.seed),
        dataset.observation_dim,
        dataset.action_dim,
        AgentConfig(**{**settings, "max_steps": config.num_updates}),
        discrete_actions=dataset.discrete_actions,
    )


def load_state(folder: Path, settings: Config, dataset: Dataset) -> tuple[IQLState, int]:
    """The newest saved state of a run, and the run's step there.

    Raises:
        UserError: If there is none that can be read.
    """
    restored = read_newest(folder / "checkpoints", initial_state(settings, dataset))
    if restored is None:
        raise UserError(f"{folder} holds no checkpoint yet; train it first")
    state, progress = restored
    return state, progress["step"]


def offline_phase(run: Run, num_updates: int) -> Phase[IQLState]:
    """A phase whose steps are updates on the run's dataset."""
    return updates_phase(
        functools.partial(update_n.lower, batch_size=run.config.batch_size),
        lambda: jax.device_put(Transitions(**run.dataset.transitions)),
        num_updates,
        run.startup,
    )


def updates_phase(
    lower: Callable[..., jax.stages.Lowered],
    place: Callable[[], Transitions | Pool],
    num_updates: int,
    startup: dict[str, float],
    max_stretch: int = MAX_STRETCH,
) -> Phase[IQLState]:
    """A phase whose steps are updates by a program such as ``update_n``.

    Its data are on the device, and its program is compiled, from its first step to its last: a run
    that goes on in a later phase needs neither.

    Args:
        lower: Lowers the program for a state, data and a number of updates.
        place: Puts on the device what it learns from.
        num_updates: The phase's steps.
        startup: Gets the seconds that compiling took.
        max_stretch: The most updates that are made at once.
    """
    ready: list[Callable[[IQLState, Array], tuple[IQLState, Metrics]]] = []

    def prepare(state: IQLState) -> None:
        if ready:
            return
        data = place()
        started = time.perf_counter()
        compiled = compile_program(lower(state, data, np.asarray(0, np.int32)))
        startup["compile_seconds"] = time.perf_counter() - started
        logger.info(f"compiled the update in {startup['compile_seconds']:.1f} s")
        ready.append(lambda state, count: compiled(state, data, count))

    def advance(state: IQLState, count: int, _: StopRequest) -> Stretch[IQLState]:
        (program,) = ready
        state, metrics = program(state, np.asarray(count, np.int32))
        return Stretch(state, metrics, steps=count, updates=count)

    return Phase(num_updates, advance, max_stretch=max_stretch, prepare=prepare, end=ready.clear)
