"""The training loop that all runs share: intervals of steps, and what happens between them.

A run is one or more phases, each with its own kind of step: an update of an offline phase, an
environment step of an online one. The loop counts steps and knows nothing else: how to advance,
evaluate and describe a run are functions it is given. At each boundary it logs, evaluates and
saves, in that order, each at its own interval within the phase and at the phase's end; a checkpoint
remembers which of these were done at its step, so that a resumed run does exactly what an
uninterrupted one would have done.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import jax
from tqdm import tqdm

from iql_jax.checkpointing import Checkpoints
from iql_jax.config import Config
from iql_jax.console import say
from iql_jax.errors import UserError
from iql_jax.interrupts import Interrupted, StopRequest
from iql_jax.metrics import RunLog
from iql_jax.types import Metrics

State = TypeVar("State")

# Longest stretch of steps without returning to the host: a stop request waits for its end. Part of
# what a run computes (means in metrics.csv are taken stretch by stretch), hence fixed.
MAX_STRETCH = 1_000


@dataclasses.dataclass(frozen=True)
class Stretch(Generic[State]):
    """What became of some steps.

    Attributes:
        state: The state after them.
        metrics: Means over their updates; empty if there were none.
        steps: How many there were: fewer than asked for after a stop request or a failure.
        updates: How many updates they made.
        failure: What ended them, if the run cannot go on.
    """

    state: State
    metrics: Metrics
    steps: int
    updates: int
    failure: UserError | None = None


@dataclasses.dataclass(frozen=True)
class Phase(Generic[State]):
    """A part of a run.

    Attributes:
        steps: How many it has.
        begin: Called once before its first step, of the run or of a resumed run.
        advance: Makes a number of steps, or fewer if a stop is requested meanwhile.
        stride: It makes steps by this number at once; a divisor of all that are asked for.
    """

    steps: int
    advance: Callable[[State, int, StopRequest], Stretch[State]]
    stride: int = 1
    begin: Callable[[State], None] = lambda state: None


class Extra(Protocol):
    """What a run keeps beside its state and the loop's progress."""

    def save(self) -> dict[str, Any]:
        """Called before each checkpoint; returns what goes into it, JSON-able."""

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Begin where ``save`` returned this; empty for a new run."""

    def rows(self) -> Sequence[tuple[str, int, Mapping[str, float | None]]]:
        """Rows (table, step, values) to log since the last call."""

    def columns(self, updates: float, steps: float) -> dict[str, float | None]:
        """Columns of metrics.csv beside the means, given updates and steps a second."""


@dataclasses.dataclass
class Progress:
    """How far a run is, beside its state; saved with each checkpoint."""

    step: int = 0  # Of all phases.
    updates: int = 0
    logged: int = 0  # Step of the last row in metrics.csv.
    evaluated: int = 0  # Step of the last row in evaluations.csv.
    metric_sums: dict[str, float] = dataclasses.field(default_factory=dict)  # Since `logged`.
    summed_updates: int = 0  # In `metric_sums`.
    training_seconds: float = 0.0  # In steps alone.
    training_seconds_logged: float = 0.0  # The same at `logged`.
    eval_seconds: float = 0.0
    wall_seconds: float = 0.0  # Of all sessions up to their last save, start-up included.
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)  # What ``Extra.save`` returned.


@dataclasses.dataclass(frozen=True)
class Loop(Generic[State]):
    """What the loop needs to carry a run from any of its states to the end.

    Attributes:
        config: The settings; of these the loop reads intervals and displays.
        folder: The run's folder.
        record: The run's record, as ``config.json`` has it.
        phases: What the run consists of.
        evaluate: Returns a row for evaluations.csv; None to train without evaluation.
        template: The state before the first step.
        started: ``time.perf_counter()`` when the program started.
        extra: What else is saved, resumed and logged.
        tables: What is logged besides metrics and evaluations, by ``extra``.
        unit: What a step is called: the first column of the tables.
        first_step: The step at which the first phase begins.
    """

    config: Config
    folder: Path
    record: Mapping[str, Any]
    phases: Sequence[Phase[State]]
    evaluate: Callable[[State, int, StopRequest], dict[str, float | None]] | None
    template: State
    started: float
    extra: Extra | None = None
    tables: tuple[str, ...] = ()
    unit: str = "update"
    first_step: int = 0

    def run(self) -> tuple[State, Progress]:
        """Start, or go on from the newest checkpoint, and train to the end of the last phase.

        Raises:
            Interrupted: After SIGINT or SIGTERM, with the state saved.
            UserError: On a number that is not finite, with the state saved for diagnosis; on a
                failure that a phase reports, with the state saved.
        """
        with Checkpoints(self.folder / "checkpoints") as checkpoints:
            state, progress = self.template, Progress(step=self.first_step, logged=self.first_step)
            restored = checkpoints.restore_newest(self.template)
            if restored is not None:
                state, progress = restored[0], Progress(**restored[1])
                say(f"resuming {self.folder} at {self.unit} {progress.step:,}")
            if self.extra is not None:
                self.extra.restore(progress.extra)
            log = RunLog(
                self.folder,
                {
                    "metrics": progress.logged,
                    "evaluations": progress.evaluated,
                    **dict.fromkeys(self.tables, progress.step),
                },
                self.config.wandb_project,
                self.record,
                self.unit,
            )
            session = _Session(self, checkpoints, log, progress)
            try:
                with StopRequest() as stop:
                    state = session.train(state, stop)
            finally:
                session.close()
            return state, progress


class _Session(Generic[State]):
    """One stretch of a run's life, from a start or resume to its end or interruption."""

    def __init__(
        self, loop: Loop[State], checkpoints: Checkpoints, log: RunLog, progress: Progress
    ) -> None:
        self._loop = loop
        self._config = loop.config
        self._checkpoints = checkpoints
        self._log = log
        self._progress = progress
        self._wall_before = progress.wall_seconds
        self._begun: Phase[State] | None = None
        self._bar = tqdm(
            total=loop.first_step + sum(phase.steps for phase in loop.phases),
            initial=progress.step,
            unit=loop.unit,
            disable=not self._config.progress,
            smoothing=0.1,
            dynamic_ncols=True,
        )

    def close(self) -> None:
        self._bar.close()
        self._log.close()

    def train(self, state: State, stop: StopRequest) -> State:
        try:
            while True:
                self._log_if_due()
                self._evaluate_if_due(state, stop)
                self._save_if_due(state)
                if self._phase() is None:
                    return state
                stop.check()
                state = self._advance(state, stop)
        except Interrupted as interrupted:
            self._save(state)
            raise Interrupted(
                interrupted.signum,
                f"{interrupted} at {self._loop.unit} {self._progress.step:,}; "
                f"saved in {self._loop.folder}",
                resumable=True,
            ) from None

    def _phase(self) -> tuple[Phase[State], int] | None:
        """The phase of the next step and the step at which it began; None at the run's end."""
        begin = self._loop.first_step
        for phase in self._loop.phases:
            if self._progress.step < begin + phase.steps:
                return phase, begin
            begin += phase.steps
        return None

    def _next_stretch(self, phase: Phase[State], begin: int) -> int:
        """How many steps to make before something may be due."""
        intervals = (
            self._config.log_interval,
            self._config.eval_interval,
            self._config.checkpoint_interval,
            MAX_STRETCH - MAX_STRETCH % phase.stride or phase.stride,
        )
        done = self._progress.step - begin
        return min(phase.steps - done, *(interval - done % interval for interval in intervals))

    def _advance(self, state: State, stop: StopRequest) -> State:
        progress, current = self._progress, self._phase()
        assert current is not None
        if current[0] is not self._begun:
            self._begun = current[0]
            self._begun.begin(state)
        num_steps = self._next_stretch(*current)
        start = time.perf_counter()
        stretch = current[0].advance(state, num_steps, stop)
        means = {name: float(mean) for name, mean in jax.device_get(stretch.metrics).items()}
        progress.training_seconds += time.perf_counter() - start
        for name, mean in means.items():
            total = progress.metric_sums.get(name, 0.0) + mean * stretch.updates
            progress.metric_sums[name] = total
        progress.step += stretch.steps
        progress.updates += stretch.updates
        progress.summed_updates += stretch.updates
        if self._loop.extra is not None:
            for table, step, values in self._loop.extra.rows():
                self._log.write(table, step, values)
        self._stop_if_not_finite(stretch.state, means, stretch.steps)
        self._bar.update(stretch.steps)
        if stretch.failure is not None:
            self._save(stretch.state)
            raise UserError(
                f"{stretch.failure}; {self._loop.unit} {progress.step:,} is saved in "
                f"{self._loop.folder}"
            )
        return stretch.state

    def _due(self, interval: int, done: int) -> bool:
        """Whether a step is at an interval or the end of its phase, and not ``done`` already."""
        step, begin = self._progress.step, self._loop.first_step
        for phase in self._loop.phases:
            if step <= begin + phase.steps:
                break
            begin += phase.steps
        return step > done and ((step - begin) % interval == 0 or step == begin + phase.steps)

    def _log_if_due(self) -> None:
        progress = self._progress
        if not self._due(self._config.log_interval, progress.logged):
            return
        num_updates = progress.summed_updates
        row = {name: total / num_updates for name, total in progress.metric_sums.items()}
        if row:  # There may have been no update yet.
            seconds = progress.training_seconds - progress.training_seconds_logged
            rates = (num_updates / seconds, (progress.step - progress.logged) / seconds)
            shown: dict[str, float | None] = {"updates_per_second": rates[0]}
            if self._loop.extra is not None:
                shown = self._loop.extra.columns(*rates)
            self._log.write("metrics", progress.step, {**row, **shown, **self._clock()})
        progress.logged, progress.metric_sums, progress.summed_updates = progress.step, {}, 0
        progress.training_seconds_logged = progress.training_seconds

    def _evaluate_if_due(self, state: State, stop: StopRequest) -> None:
        progress = self._progress
        if self._loop.evaluate is None or not self._due(
            self._config.eval_interval, progress.evaluated
        ):
            return
        start = time.perf_counter()
        row = self._loop.evaluate(state, progress.step, stop)
        seconds = time.perf_counter() - start
        progress.eval_seconds += seconds
        self._log.write(
            "evaluations", progress.step, {**row, "eval_seconds": seconds, **self._clock()}
        )
        progress.evaluated = progress.step
        shown = {k: f"{row[k]:.1f}" for k in ("score", "return_mean") if row.get(k) is not None}
        self._bar.set_postfix(shown, refresh=True)

    def _save_if_due(self, state: State) -> None:
        if self._due(self._config.checkpoint_interval, 0):
            self._save(state)

    def _save(self, state: State) -> None:
        self._clock()
        if self._loop.extra is not None:
            self._progress.extra = self._loop.extra.save()
        self._checkpoints.save(self._progress.step, state, dataclasses.asdict(self._progress))

    def _clock(self) -> dict[str, float]:
        """Bring the run's wall time up to date and return it."""
        now = time.perf_counter() - self._loop.started
        self._progress.wall_seconds = self._wall_before + now
        return {"wall_seconds": self._progress.wall_seconds}

    def _stop_if_not_finite(self, state: State, means: dict[str, float], num_steps: int) -> None:
        broken = [name for name, mean in means.items() if not math.isfinite(mean)]
        if not broken:
            return
        step = self._progress.step
        folder = self._loop.folder / "diagnosis"
        with Checkpoints(folder) as diagnosis:
            diagnosis.save(step, state, dataclasses.asdict(self._progress))
        raise UserError(
            f"{', '.join(broken)} not finite between {self._loop.unit}s {step - num_steps:,} and "
            f"{step:,}; the state is saved in {folder} for diagnosis, and the last good one is "
            "in checkpoints; check the data's rewards, or lower the learning rates"
        )
