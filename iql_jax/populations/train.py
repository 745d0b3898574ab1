"""Trains a population: many runs as one program, in one session."""

import contextlib
import time
from collections.abc import Iterator, Sequence

import numpy as np

from iql_jax.algorithm import IQLState
from iql_jax.data.config import DATA_KEYS
from iql_jax.data.load import Dataset
from iql_jax.outputs.folder import RunFolder, read_record
from iql_jax.outputs.logs import require_wandb
from iql_jax.populations.folder import Population
from iql_jax.populations.mapped import Placement, Pool, maps_in_turn, stack, update_population_n
from iql_jax.populations.session import PopulationSession, own_members
from iql_jax.training.compilation import compile_program
from iql_jax.training.evaluation import is_evaluated, may_do_without_environment, open_evaluator
from iql_jax.training.offline import Update, train_on_dataset
from iql_jax.training.run import Run, dataset_record, initial_state, load_data
from iql_jax.utils import hosts
from iql_jax.utils.console import logger
from iql_jax.utils.errors import Diverged


def train_population(population: Population) -> None:
    """Trains members together; where some of it is done, resumes it."""
    with contextlib.ExitStack() as context:
        context.enter_context(may_do_without_environment())
        runs = context.enter_context(_open_runs(population))
        config, evaluator = runs[0].config, None
        evaluates = all(is_evaluated(config, run.dataset) for run in runs)
        with hosts.all_or_none():
            own = own_members(len(runs))
            if own and evaluates:
                environments = [runs[i].dataset.require_environment() for i in own]
                evaluator = context.enter_context(open_evaluator(config, environments))
        placement = Placement(len(runs))
        members = placement.spread(stack([initial_state(r.config, r.dataset.layout) for r in runs]))
        # What fails here leaves new folders as they were; environments are built meanwhile.
        update = _compile_update(runs, placement, members)
        with hosts.all_or_none():
            if evaluator is not None:
                evaluator.wait_until_built()
        with PopulationSession(runs, population.folder, placement, members, evaluator) as session:
            evaluate = session.evaluate if evaluates else None
            try:
                train_on_dataset(session, update, evaluate, config.max_steps)
            except Diverged as error:
                logger.info(f"all {len(runs)} members have failed: {error}")
            else:
                session.finish()


@contextlib.contextmanager
def _open_runs(population: Population) -> Iterator[list[Run]]:
    """Opens the members' runs; those that want the same data share them.

    Of several hosts, one locks and writes the folders, and the others read.
    """
    started = time.perf_counter()
    startup: dict[str, float] = {}  # Shared by all summaries.
    configs = [member.config for member in population.members]
    require_wandb(configs[0].wandb_project)
    loaded: dict[tuple[object, ...], Dataset] = {}
    datasets = []
    with contextlib.ExitStack() as context:
        with hosts.all_or_none():
            for config, folder in zip(configs, population.folders, strict=True):
                source = population.sources[config.dataset]
                wanted = tuple(getattr(config, key) for key in DATA_KEYS)
                if wanted not in loaded:
                    loaded[wanted] = load_data(config, source)
                datasets.append(loaded[wanted])
                if hosts.is_writer():
                    locked = context.enter_context(RunFolder(folder))
                    locked.claim(config.to_dict(), dataset_record(datasets[-1], source))
            startup["load_seconds"] = time.perf_counter() - started
        yield [
            Run(config, folder, read_record(folder), dataset, started, startup)
            for config, folder, dataset in zip(configs, population.folders, datasets, strict=True)
        ]


def _compile_update(runs: Sequence[Run], placement: Placement, members: IQLState) -> Update:
    """Puts the data of all runs on the devices and compiles the update of the members."""
    pool = placement.place(Pool.of([run.dataset.transitions for run in runs]))
    started = time.perf_counter()
    lowered = update_population_n.lower(
        members,
        pool,
        np.int32(0),
        batch_size=runs[0].config.batch_size,
        mesh=placement.mesh,
        in_turn=maps_in_turn(),
    )
    program = compile_program(lowered)
    runs[0].startup["compile_seconds"] = seconds = time.perf_counter() - started
    logger.info(f"compiled the update of {len(runs)} members in {seconds:.1f} s")
    return lambda members, count: program(members, pool, np.int32(count))
