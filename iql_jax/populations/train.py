"""A population's run, from its members' configs to their summaries.

To the training loop it is one run, whose state is all members' and whose rows have a number for
each. Its checkpoints hold all members at once. A member whose numbers are no longer finite is
marked and the others go on.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from iql_jax.algorithm import IQLState, Transitions
from iql_jax.outputs.checkpoints import Checkpoints, read_newest, save_for_diagnosis
from iql_jax.outputs.folder import device_name, versions, write_json
from iql_jax.outputs.logs import RunLog, Values
from iql_jax.populations.folder import FAILURE, Population
from iql_jax.populations.mapped import Placement, Pool, maps_in_turn, stack, update_population_n
from iql_jax.training import report
from iql_jax.training.evaluation import PopulationEvaluation
from iql_jax.training.loop import Loop
from iql_jax.training.phases import MAX_STRETCH, Extra, Phase, Progress, Stretch
from iql_jax.training.run import (
    Run,
    initial_state,
    may_do_without_environment,
    open_runs,
    updates_phase,
)
from iql_jax.utils import hosts
from iql_jax.utils.console import logger
from iql_jax.utils.errors import Diverged, UserError
from iql_jax.utils.signals import StopRequest

# Of members in turn: a stop request waits for the end of as many updates of each.
_MIN_STRETCH = 100


def train_population(population: Population) -> None:
    """Train members together; where some of it is done, go on with it.

    Raises:
        UserError: On anything that the user can mend.
        Interrupted: After SIGINT or SIGTERM, with the state saved.
    """
    configs = [member.config for member in population.members]
    with contextlib.ExitStack() as stack:
        stack.enter_context(may_do_without_environment())
        runs = stack.enter_context(open_runs(configs, population.folders, population.begun))
        with hosts.all_or_none():
            evaluation = stack.enter_context(_own_evaluation(runs))
        _Training(runs, evaluation, population.folder).train()


def _own_members(num_members: int) -> range:
    """Those whose policies this process evaluates."""
    bounds = np.linspace(0, num_members, jax.process_count() + 1).astype(int)
    return range(*bounds[jax.process_index() : jax.process_index() + 2].tolist())


@contextlib.contextmanager
def _own_evaluation(runs: Sequence[Run]) -> Iterator[PopulationEvaluation | None]:
    """Environments for the policies that this process evaluates; None if there are none."""
    own = [runs[i] for i in _own_members(len(runs))]
    episodes = runs[0].config.eval_episodes
    if not own or not episodes:
        yield None
        return
    with PopulationEvaluation(
        [run.config for run in own], [run.dataset for run in own], episodes, runs[0].num_envs
    ) as evaluation:
        yield evaluation


class _Training(Extra):
    """What the loop is given of a population."""

    def __init__(
        self, runs: Sequence[Run], evaluation: PopulationEvaluation | None, folder: Path
    ) -> None:
        self._runs = runs
        self._evaluation = evaluation
        self._folder = folder
        self._config = runs[0].config
        self._placement = Placement.of(len(runs))
        self._failures: dict[int, dict[str, Any]] = {}

    def train(self) -> None:
        """Train to the end, and write what each member's run leaves."""
        states = [initial_state(run.config, run.dataset) for run in self._runs]
        template = self._placement.spread(stack(states))
        loop = Loop(
            config=dataclasses.replace(
                self._config, progress=self._config.progress and hosts.is_writer()
            ),
            folder=self._folder,
            record={},
            phases=[self._phase()],
            evaluate=self._evaluate if self._config.eval_episodes > 0 else None,
            template=template,
            started=self._runs[0].started,
            extra=self,
            open_log=self._open_log,
            pack=self._placement.gather,
            unpack=self._placement.spread,
            stop_request=hosts.stop_request,
        )
        try:
            state, progress = loop.run()
        except Diverged as error:
            logger.info(f"all {len(self._runs)} members have failed: {error}")
            self._write_failures()
            return
        self._finish(state, progress)

    # As ``phases.Extra``.

    def save(self) -> dict[str, Any]:
        """Whose states these are, and which members have failed."""
        return {
            "runs": self._run_ids(),
            "failures": {str(i): failure for i, failure in self._failures.items()},
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Begin where ``save`` returned this; empty for a new population.

        Raises:
            UserError: If it was saved by other runs than the members' folders hold.
        """
        if not saved:
            return
        theirs, ours = saved.get("runs", {}), self._run_ids()
        others = [name for name in ours if theirs.get(name) != ours[name]]
        if others:
            raise UserError(
                f"{self._folder} holds checkpoints of other runs of {', '.join(others)}; delete "
                f"the folders of all that train together ({', '.join(ours)}) to train them anew"
            )
        self._failures.update({int(i): dict(f) for i, f in saved["failures"].items()})

    def _run_ids(self) -> dict[str, str]:
        """The identity of each member's run: not of its settings alone, but of its folder."""
        return {run.folder.name: run.record["run_id"] for run in self._runs}

    # Training.

    def _phase(self) -> Phase[IQLState]:
        in_turn = maps_in_turn()
        phase = updates_phase(
            partial(
                update_population_n.lower,
                batch_size=self._config.batch_size,
                mesh=self._placement.mesh,
                in_turn=in_turn,
            ),
            lambda: self._placement.place(
                Pool.of([Transitions(**run.dataset.transitions) for run in self._runs])
            ),
            self._config.max_steps,
            self._runs[0].startup,
            max(_MIN_STRETCH, MAX_STRETCH // len(self._runs)) if in_turn else MAX_STRETCH,
        )

        def advance(states: IQLState, num: int, stop: StopRequest) -> Stretch[IQLState]:
            stretch = phase.advance(states, num, stop)
            means = {k: np.array(v) for k, v in self._placement.gather(stretch.metrics).items()}
            self._mark_broken(stretch.state, means, num)
            return dataclasses.replace(stretch, metrics=means)

        return dataclasses.replace(phase, advance=advance)

    def _mark_broken(self, states: IQLState, means: dict[str, Any], num_updates: int) -> None:
        """Note members with a mean that is not finite; none of their numbers counts from there."""
        step: int | None = None
        for i in range(len(self._runs)):
            broken = [name for name, mean in means.items() if not np.isfinite(mean[i])]
            if broken and i not in self._failures:
                step = step or int(self._placement.gather(states.step)[i])
                reason = f"{', '.join(broken)} not finite"
                between = f"between updates {step - num_updates:,} and {step:,}"
                self._fail(i, states, step, f"{reason} {between}")
        for mean in means.values():
            mean[list(self._failures)] = np.nan

    def _fail(self, i: int, states: IQLState, step: int, reason: str) -> None:
        """Mark a member, keep its state for diagnosis, and its last good one if there is one."""
        folder = self._runs[i].folder
        self._failures[i] = {"update": step, "reason": reason}
        packed = self._placement.gather(states)
        member = self._placement.member(packed, i)
        place = save_for_diagnosis(folder, step, member, {"step": step})
        logger.info(
            f"member {folder.name} has failed, the others go on: {reason}; its state is saved in "
            f"{place}"
        )
        good = read_newest(self._folder / "checkpoints", packed)
        if good is not None:
            self._save_member(i, good[0], Progress(**good[1]))

    def _evaluate(self, states: IQLState, step: int, stop: StopRequest) -> dict[str, Any]:
        """Rows of evaluations.csv, as columns with a number for each member."""
        # By all processes, those that evaluate none too: they gather together.
        actors, skipped = self._own(states)

        def evaluate(evaluation: PopulationEvaluation) -> list[Any]:
            return list(evaluation(actors, step, self._own_stop(stop), skipped))

        rows = self._of_all_members(evaluate)
        for i, row in enumerate(rows):
            if row is None and i not in self._failures:
                self._fail(i, states, step, f"actions not finite at update {step:,}")
        names = next((list(row) for row in rows if row is not None), None)
        if names is None:
            raise Diverged(f"no member's actions are finite at update {step:,}")
        return {name: [None if row is None else row[name] for row in rows] for name in names}

    def _of_all_members(self, evaluate: Callable[[PopulationEvaluation], list[Any]]) -> list[Any]:
        """What each process finds of its own members, JSON-able, put together.

        Raises:
            UserError: On all, if an environment fails on one: the others would wait for it.
        """
        with hosts.all_or_none():
            own = [] if self._evaluation is None else evaluate(self._evaluation)
        return [found for found_there in hosts.exchange(own) for found in found_there]

    def _own(self, states: IQLState) -> tuple[Any, Container[int]]:
        """The actors that this process evaluates, on its first device, and who of them failed."""
        own = _own_members(len(self._runs))
        actors = jax.tree.map(
            lambda x: jax.device_put(x[own.start : own.stop], jax.local_devices()[0]),
            self._placement.gather(states.actor),
        )
        return actors, {i - own.start for i in self._failures if i in own}

    def _own_stop(self, stop: StopRequest) -> StopRequest:
        """Of several processes none stops alone in the middle of an evaluation."""
        return stop if jax.process_count() == 1 else StopRequest()

    def _open_log(self, last_steps: Mapping[str, int]) -> "_MembersLog":
        runs = self._runs if hosts.is_writer() else []
        with hosts.all_or_none():
            logs = [
                RunLog(run.folder, last_steps, run.config.wandb_project, run.record) for run in runs
            ]
        return _MembersLog(logs, self._failures)

    # The end.

    def _finish(self, states: IQLState, progress: Progress) -> None:
        """Write what the members' runs leave, and the population's own summary."""
        with hosts.stop_request(resumable=True) as stop:
            paths = self._shown_paths(states, progress.step, stop)
            stop.check()
        packed = self._placement.gather(states)
        self._write_failures()
        for i, run in enumerate(self._runs):
            if i in self._failures:
                continue
            self._save_member(i, packed, progress)
            with hosts.all_or_none():
                if hosts.is_writer():
                    state = self._placement.member(packed, i)
                    report.finish(run, state, progress, policy_paths=paths[i] if paths else None)
        with hosts.all_or_none():
            if hosts.is_writer():
                self._summarize(progress)

    def _shown_paths(self, states: IQLState, step: int, stop: StopRequest) -> list[Any] | None:
        """Each member's paths in its maze, where there is one."""
        in_mazes = [report.has_maze(run.dataset) for run in self._runs]
        if self._config.eval_episodes == 0 or not any(in_mazes):
            return None

        actors, skipped = self._own(states)

        def find_paths(evaluation: PopulationEvaluation) -> list[Any]:
            shown = report.SHOWN_EPISODES
            results = evaluation.episodes(actors, step, shown, self._own_stop(stop), shown, skipped)
            runs = [self._runs[i] for i in _own_members(len(self._runs))]
            return [
                [path.tolist() for path in report.shown_paths(run.dataset, result)]
                if result is not None and report.has_maze(run.dataset)
                else None
                for run, result in zip(runs, results, strict=True)
            ]

        return self._of_all_members(find_paths)

    def _save_member(self, i: int, packed: IQLState, progress: Progress) -> None:
        """Save one member's state as a run on its own does."""
        own = dataclasses.replace(progress, extra={}, metric_sums={}, summed_updates=0)
        with Checkpoints(self._runs[i].folder / "checkpoints") as checkpoints:
            checkpoints.save(progress.step, self._placement.member(packed, i), own.to_dict())

    def _write_failures(self) -> None:
        with hosts.all_or_none():
            if hosts.is_writer():
                for i, failure in self._failures.items():
                    write_json(self._runs[i].folder / FAILURE, failure)

    def _summarize(self, progress: Progress) -> None:
        updates = progress.updates * len(self._runs)
        rate = updates / max(progress.training_seconds, 1e-9)
        summary = {
            "members": len(self._runs),
            "failed": len(self._failures),
            "updates": updates,
            "updates_per_second": rate,
            "training_seconds": progress.training_seconds,
            "eval_seconds": progress.eval_seconds,
            "wall_seconds": progress.wall_seconds,
            **self._runs[0].startup,
            "processes": jax.process_count(),
            "versions": versions(),
            "device": device_name(),
        }
        write_json(self._folder / "summary.json", summary)
        logger.info(
            f"{len(self._runs)} members done, {len(self._failures)} of them failed: {updates:,} "
            f"updates at {rate:,.0f} updates/s in all, evaluation {progress.eval_seconds:.0f} s, "
            f"wall {progress.wall_seconds:.0f} s"
        )


class _MembersLog:
    """Writes each member's share of a row to the member's own tables."""

    def __init__(self, logs: Sequence[RunLog], skipped: Container[int]) -> None:
        self._logs = logs
        self._skipped = skipped

    def write(self, table: str, step: int, values: Values) -> None:
        """Log a row, of lists with an entry for each member and of what they share."""
        with hosts.all_or_none():
            for i, log in enumerate(self._logs):
                if i not in self._skipped:
                    own = {name: v[i] if isinstance(v, list) else v for name, v in values.items()}
                    log.write(table, step, own)

    def close(self) -> None:
        """Finish all writers."""
        for log in self._logs:
            log.close()
