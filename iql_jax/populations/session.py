"""Trains a population: many runs in one session, whose state is that of all members.

Its rows have a number for each member, and its checkpoints hold all members at once. A member whose
numbers are no longer finite is marked, and the others continue.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from iql_jax.algorithm import IQLState
from iql_jax.data.config import DATA_KEYS
from iql_jax.data.load import Dataset
from iql_jax.envs.episodes import EvaluationResult, Evaluator
from iql_jax.outputs.checkpoints import Checkpoints, read_newest
from iql_jax.outputs.folder import RunFolder, read_record, write_json
from iql_jax.outputs.logs import RunLog, Values, require_wandb
from iql_jax.populations.folder import FAILURE, Population, read_failure
from iql_jax.populations.mapped import Placement, Pool, maps_in_turn, stack, update_population_n
from iql_jax.training import report
from iql_jax.training.compilation import check_precision, compile_program
from iql_jax.training.config import Config
from iql_jax.training.evaluation import (
    describe,
    episode_task,
    is_evaluated,
    may_do_without_environment,
    open_evaluator,
)
from iql_jax.training.offline import Update, train_on_dataset
from iql_jax.training.run import Run, dataset_record, initial_state, load_data
from iql_jax.training.session import MAX_CHUNK, Means, Progress, Session
from iql_jax.utils import hosts
from iql_jax.utils.console import logger
from iql_jax.utils.errors import Diverged
from iql_jax.utils.signals import StopRequest

_MIN_CHUNK = 100  # Of members in turn: a stop request waits for as many updates of each.


def own_members(num_members: int) -> range:
    """Returns the members whose policies this process evaluates."""
    return range(jax.process_index(), num_members, jax.process_count())


class PopulationSession(Session):
    """The session of members' runs; the evaluator is for this process's share of them, if any."""

    def __init__(
        self,
        runs: Sequence[Run],
        folder: Path,
        placement: Placement,
        members: IQLState,
        evaluator: Evaluator | None,
    ) -> None:
        first = runs[0]
        config = first.config
        self._runs, self._placement, self._evaluator = runs, placement, evaluator
        self._failed: set[int] = set()
        shown = dataclasses.replace(config, progress=config.progress and hosts.is_writer())
        super().__init__(
            dataclasses.replace(first, config=shown, folder=folder, record={}),
            members,
            end=config.max_steps,
            stop=hosts.SharedStopRequest(),
        )

    def evaluate(self, members: IQLState, step: int, stop: StopRequest) -> Values:
        """Returns the members' rows of evaluations.csv, as columns with a number for each."""
        found = self._play(
            self._config.eval_episodes, lambda run, r: describe(r, run.dataset.score_rule)
        )
        rows = [found.get(i) for i in range(len(self._runs))]
        for i, row in enumerate(rows):
            if row is None and i not in self._failed:
                self._fail(i, step, f"actions not finite at update {step:,}")
        if not found:
            raise Diverged(f"no member's actions are finite at update {step:,}")
        names = next(iter(found.values()))
        return {name: [None if row is None else row[name] for row in rows] for name in names}

    def finish(self) -> None:
        """Writes what the members' runs leave."""
        paths: dict[int, Any] = {}
        if self._config.eval_episodes > 0 and any(report.has_maze(r.dataset) for r in self._runs):
            paths = self._play(
                report.SHOWN_EPISODES,
                lambda run, r: [path.tolist() for path in report.shown_paths(run.dataset, r)],
                record=report.SHOWN_EPISODES,
            )
            self.stop.check()
        packed, progress = self._pack(self.state), self.progress
        for i, run in enumerate(self._runs):
            if i in self._failed:
                continue
            self._save_member(i, packed, progress)
            with hosts.all_or_none():
                if hosts.is_writer():
                    # It may have failed after the restored step, and not this time.
                    (run.folder / FAILURE).unlink(missing_ok=True)
                    state = self._placement.member(packed, i)
                    report.finish(run, state, progress, None, policy_paths=paths.get(i))
        logger.info(f"{len(self._runs)} members done, {len(self._failed)} of them failed")

    def _play(
        self, episodes: int, read: Callable[[Run, EvaluationResult], Any], record: int = 0
    ) -> dict[int, Any]:
        """Plays episodes of every member whose actions are finite; returns what ``read`` finds.

        Every process must call this, even with nothing to evaluate: it is a collective.
        """
        actors = self._placement.gather(self.state.actor)
        own = [i for i in own_members(len(self._runs)) if i not in self._failed]
        found: list[tuple[int, Any]] = []
        with hosts.all_or_none():
            if self._evaluator is not None:
                tasks = []
                for i in own:
                    run, actor = self._runs[i], jax.tree.map(lambda x, i=i: x[i], actors)
                    environment = run.dataset.require_environment()
                    tasks.append(episode_task(run.config, environment, actor, self.step))
                # Of several processes none stops alone in the middle of an evaluation.
                check = self.stop.check if jax.process_count() == 1 else lambda: None
                results = self._evaluator.run(tasks, episodes, record=record, check=check)
                for i, result in zip(own, results, strict=True):
                    if not isinstance(result, Diverged):
                        found.append((i, read(self._runs[i], result)))
        return {i: values for part in hosts.exchange(found) for i, values in part}

    def _fail(self, i: int, step: int, reason: str) -> None:
        """Marks a member, and keeps its last good state, if any."""
        self._failed.add(i)
        folder = self._runs[i].folder
        with hosts.all_or_none():
            if hosts.is_writer():
                write_json(folder / FAILURE, {"update": step, "reason": reason})
        logger.info(f"member {folder.name} has failed, the others continue: {reason}")
        if good := read_newest(self.folder / "checkpoints", self._pack(self.state)):
            self._save_member(i, good[0], Progress(**good[1]))

    def _save_member(self, i: int, packed: IQLState, progress: Progress) -> None:
        """Saves one member's state as a run on its own does."""
        own = dataclasses.replace(progress, metric_sums={}, summed_updates=0)
        with Checkpoints(self._runs[i].folder / "checkpoints") as checkpoints:
            checkpoints.save(progress.step, self._placement.member(packed, i), own.to_dict())

    def _pack(self, state: IQLState) -> IQLState:
        return self._placement.gather(state)

    def _unpack(self, packed: IQLState) -> IQLState:
        return self._placement.spread(packed)

    def _means(self, metrics: Mapping[str, Any], steps: int) -> Means:
        """Fetches the metrics [N]; marks members of which one is not finite, now NaN for good."""
        gathered = self._placement.gather(dict(metrics))
        means: Means = {name: np.array(mean, np.float64) for name, mean in gathered.items()}
        step = self.step + steps
        for i in range(len(self._runs)):
            broken = [name for name, mean in means.items() if not np.isfinite(mean[i])]
            if broken and i not in self._failed:
                between = f"between updates {self.step:,} and {step:,}"
                self._fail(i, step, f"{', '.join(broken)} not finite {between}")
        for mean in means.values():
            mean[list(self._failed)] = np.nan
        return means

    def write(self, table: str, values: Values, step: int | None = None) -> None:
        """Logs a row, of lists with an entry for each member and of what they share."""
        with hosts.all_or_none():
            for i, log in enumerate(self._logs):
                if i not in self._failed:
                    own = {name: v[i] if isinstance(v, list) else v for name, v in values.items()}
                    log.write(table, self.step if step is None else step, own)

    def _open_log(self, last_steps: Mapping[str, int]) -> contextlib.ExitStack:
        """Opens the members' logs; those that failed before the restored step stay failed."""
        for i, run in enumerate(self._runs):
            failure = read_failure(run.folder)
            if failure is not None and failure["update"] <= self.step:
                self._failed.add(i)
        logs, self._logs = contextlib.ExitStack(), []
        with hosts.all_or_none():
            for run in self._runs if hosts.is_writer() else ():
                log = RunLog(run.folder, last_steps, run.config.wandb_project, run.record)
                self._logs.append(log)
                logs.callback(log.close)
        return logs

    def _longest_chunk(self) -> int:
        return max(_MIN_CHUNK, MAX_CHUNK // len(self._runs)) if maps_in_turn() else MAX_CHUNK


def data_key(config: Config) -> tuple[Any, ...]:
    """Returns what is the same for members that learn from the same transitions."""
    return (config.objective, *(getattr(config, key) for key in DATA_KEYS))


def train_population(
    population: Population, loaded: Mapping[tuple[Any, ...], Dataset] | None = None
) -> None:
    """Trains members together; where some of it is done, resumes it.

    ``loaded`` are datasets that need not be loaded again, by ``data_key``.
    """
    with contextlib.ExitStack() as context:
        context.enter_context(may_do_without_environment())
        runs = context.enter_context(_open_runs(population, dict(loaded or {})))
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
def _open_runs(
    population: Population, loaded: dict[tuple[Any, ...], Dataset]
) -> Iterator[list[Run]]:
    """Opens the members' runs; those that want the same data share them.

    Of several hosts, one locks and writes the folders, and the others read.
    """
    started = time.perf_counter()
    startup: dict[str, float] = {}  # Shared by all summaries.
    configs = [member.config for member in population.members]
    require_wandb(configs[0].wandb_project)
    check_precision(configs[0].matmul_precision)
    datasets = []
    with contextlib.ExitStack() as context:
        with hosts.all_or_none():
            for config, folder in zip(configs, population.folders, strict=True):
                source = population.sources[config.dataset]
                if (wanted := data_key(config)) not in loaded:
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
