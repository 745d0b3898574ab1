"""The training loop that all runs share: intervals of steps, and what happens between them.

A run is one or more phases, each with its own kind of step: an update of an offline phase, an
environment step of an online one. The loop counts steps and knows nothing else: how to advance,
evaluate and describe a run are functions it is given. At each boundary it logs, evaluates and
saves, in that order, each at its own interval within the phase and at the phase's end; a checkpoint
remembers which of these were done at its step, so that a resumed run does exactly what an
uninterrupted one would have done. Where a phase makes several steps at once, intervals that end
between them are rounded up.

A population of runs is one run to the loop, whose metrics and rows hold a number for each member.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NoReturn

import jax
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from iql_jax.outputs.checkpoints import Checkpoints, newest_step, save_for_diagnosis
from iql_jax.outputs.logs import RunLog, Values
from iql_jax.training.config import Config
from iql_jax.training.phases import Extra, Log, Phase, Progress, State
from iql_jax.utils.console import logger
from iql_jax.utils.errors import Diverged, UserError
from iql_jax.utils.signals import Interrupted, StopRequest

Means = dict[str, npt.NDArray[np.float64]]  # Scalars, or one for each member of a population.


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
        started: ``time.perf_counter()`` when the run was opened.
        extra: What else is saved, resumed and logged.
        tables: What is logged besides metrics and evaluations, by ``extra``.
        unit: What a step is called: the first column of the tables.
        first_step: The step at which the first phase begins.
        open_log: Opens where rows go, given the step up to which each table keeps its rows; by
            default a ``RunLog``.
        pack: What checkpoints hold of a state.
        unpack: The state again.
        stop_request: Makes what listens to signals.
    """

    config: Config
    folder: Path
    record: Mapping[str, Any]
    phases: Sequence[Phase[State]]
    evaluate: Callable[[State, int, StopRequest], Values] | None
    template: State
    started: float
    extra: Extra = dataclasses.field(default_factory=Extra)
    tables: tuple[str, ...] = ()
    unit: str = "update"
    first_step: int = 0
    open_log: Callable[[Mapping[str, int]], Log] | None = None
    pack: Callable[[State], Any] = lambda state: state
    unpack: Callable[[Any], State] = lambda packed: packed
    stop_request: Callable[[], StopRequest] = StopRequest

    def run(self) -> tuple[State, Progress]:
        """Start, or go on from the newest checkpoint, and train to the end of the last phase.

        Raises:
            Interrupted: After SIGINT or SIGTERM, with the state saved.
            UserError: On a number that is not finite, with the state saved for diagnosis; on a
                failure that a phase reports, with the state saved.
        """
        newest = newest_step(self.folder / "checkpoints")
        current = self.phase_of(self.first_step if newest is None else newest)
        if current is not None:
            current[0].prepare(self.template)
        with Checkpoints(self.folder / "checkpoints") as checkpoints:
            state, progress = self.template, Progress(step=self.first_step, logged=self.first_step)
            restored = checkpoints.restore_newest(self.pack(self.template))
            if restored is not None:
                state, progress = self.unpack(restored[0]), Progress(**restored[1])
                logger.info(f"resuming {self.folder} at {self.unit} {progress.step:,}")
            self.extra.restore(progress.extra)
            log = (self.open_log or self._run_log)(
                {
                    "metrics": progress.logged,
                    "evaluations": progress.evaluated,
                    **dict.fromkeys(self.tables, progress.step),
                }
            )
            session = _Session(self, checkpoints, log, progress)
            try:
                with self.stop_request() as stop:
                    state = session.train(state, stop)
            finally:
                session.close()
            return state, progress

    def phase_of(self, done: int) -> tuple[Phase[State], int] | None:
        """The phase of the step after ``done``, and where it begins; None at the run's end."""
        begin = self.first_step
        for phase in self.phases:
            if done < begin + phase.steps:
                return phase, begin
            begin += phase.steps
        return None

    def _run_log(self, last_steps: Mapping[str, int]) -> RunLog:
        return RunLog(self.folder, last_steps, self.config.wandb_project, self.record, self.unit)


class _Session(Generic[State]):
    """One stretch of a run's life, from a start or resume to its end or interruption."""

    def __init__(
        self, loop: Loop[State], checkpoints: Checkpoints, log: Log, progress: Progress
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
                stop.check()
                current = self._loop.phase_of(self._progress.step)
                try:
                    self._enter(None if current is None else current[0], state)
                except UserError:
                    stop.check()  # A signal to the whole process group ends the workers first.
                    raise
                if current is None:
                    return state
                stop.check()  # Compiling takes seconds.
                state = self._advance(state, *current, stop)
        except Interrupted as interrupted:
            self._save(state)
            raise Interrupted(
                interrupted.signum,
                f"{interrupted} at {self._loop.unit} {self._progress.step:,}; "
                f"saved in {self._loop.folder}",
                resumable=True,
            ) from None

    def _next_stretch(self, phase: Phase[State], begin: int) -> int:
        """How many steps to make before something may be due."""
        intervals = (
            self._config.log_interval,
            self._config.eval_interval,
            self._config.checkpoint_interval,
            # Rounded down, for it is a bound.
            phase.max_stretch - phase.max_stretch % phase.stride or phase.stride,
        )
        done = self._progress.step - begin
        whole = (_in_strides(interval, phase) for interval in intervals)
        return min(phase.steps - done, *(interval - done % interval for interval in whole))

    def _enter(self, phase: Phase[State] | None, state: State) -> None:
        """End the phase before, and begin this one, unless it is the one that goes on."""
        if phase is self._begun:
            return
        if self._begun is not None:
            self._begun.end()
        self._begun = phase
        if phase is not None:
            phase.prepare(state)
            phase.begin(state)

    def _advance(self, state: State, phase: Phase[State], begin: int, stop: StopRequest) -> State:
        """Make the steps up to where something may be due, in a phase that began at ``begin``."""
        progress = self._progress
        num_steps = self._next_stretch(phase, begin)
        start = time.perf_counter()
        stretch = phase.advance(state, num_steps, stop)
        means = {
            name: np.asarray(mean, np.float64)
            for name, mean in jax.device_get(stretch.metrics).items()
        }
        progress.training_seconds += time.perf_counter() - start
        for name, mean in means.items():
            total = np.asarray(progress.metric_sums.get(name, 0.0)) + mean * stretch.updates
            progress.metric_sums[name] = total
        progress.step += stretch.steps
        progress.updates += stretch.updates
        progress.summed_updates += stretch.updates
        for table, step, values in self._loop.extra.rows():
            self._log.write(table, step, values)
        self._stop_if_not_finite(stretch.state, means, stretch.steps)
        self._bar.update(stretch.steps)
        if stretch.failure is not None:
            self._save_after(stretch.failure, stretch.state)
        return stretch.state

    def _due(self, interval: int, done: int) -> bool:
        """Whether a step is at an interval or the end of its phase, and not ``done`` already."""
        step, begin = self._progress.step, self._loop.first_step
        for phase in self._loop.phases:
            if step <= begin + phase.steps:
                break
            begin += phase.steps
        interval = _in_strides(interval, phase)
        return step > done and ((step - begin) % interval == 0 or step == begin + phase.steps)

    def _log_if_due(self) -> None:
        progress = self._progress
        if not self._due(self._config.log_interval, progress.logged):
            return
        num_updates = progress.summed_updates
        sums = progress.metric_sums.items()
        row = {name: (np.asarray(total) / num_updates).tolist() for name, total in sums}
        if row:  # There may have been no update yet.
            seconds = progress.training_seconds - progress.training_seconds_logged
            rates = (num_updates / seconds, (progress.step - progress.logged) / seconds)
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
        try:
            row = self._loop.evaluate(state, progress.step, stop)
        except Diverged as error:
            self._keep_for_diagnosis(str(error), state)
        except UserError as error:
            self._save_after(error, state)
        seconds = time.perf_counter() - start
        progress.eval_seconds += seconds
        self._log.write(
            "evaluations", progress.step, {**row, "eval_seconds": seconds, **self._clock()}
        )
        progress.evaluated = progress.step
        self._bar.set_postfix(_shown(row), refresh=True)

    def _save_if_due(self, state: State) -> None:
        if self._due(self._config.checkpoint_interval, 0):
            self._save(state)

    def _save(self, state: State) -> None:
        self._clock()
        self._progress.extra = self._loop.extra.save()
        packed = self._loop.pack(state)
        self._checkpoints.save(self._progress.step, packed, self._progress.to_dict())

    def _save_after(self, failure: UserError, state: State) -> NoReturn:
        """Save what an environment's failure has come to, and tell of both."""
        self._save(state)
        raise UserError(
            f"{failure}; {self._loop.unit} {self._progress.step:,} is saved in {self._loop.folder}"
        ) from failure

    def _clock(self) -> dict[str, float]:
        """Bring the run's wall time up to date and return it."""
        now = time.perf_counter() - self._loop.started
        self._progress.wall_seconds = self._wall_before + now
        return {"wall_seconds": self._progress.wall_seconds}

    def _stop_if_not_finite(self, state: State, means: Means, num_steps: int) -> None:
        # A population goes on while any of its members is finite, and marks the others itself.
        broken = [name for name, mean in means.items() if not np.isfinite(mean).any()]
        if not broken:
            return
        step = self._progress.step
        between = f"between {self._loop.unit}s {step - num_steps:,} and {step:,}"
        self._keep_for_diagnosis(f"{', '.join(broken)} not finite {between}", state)

    def _keep_for_diagnosis(self, found: str, state: State) -> NoReturn:
        """End a run of which something is not finite, with its state saved beside the good ones."""
        folder = save_for_diagnosis(
            self._loop.folder,
            self._progress.step,
            self._loop.pack(state),
            self._progress.to_dict(),
        )
        newest = self._checkpoints.newest()
        good = "" if newest is None else f", and that of {newest:,} is in checkpoints"
        raise Diverged(
            f"{found}; the state is saved in {folder} for diagnosis{good}; check the data's "
            "rewards, or lower the learning rates"
        )


def _in_strides(interval: int, phase: Phase[Any]) -> int:
    """The interval, or the first number of whole strides above it."""
    return -(-interval // phase.stride) * phase.stride


def _shown(row: Values) -> dict[str, str]:
    """What the progress bar has of an evaluation: means over the members of a population."""
    shown = {}
    for name in ("score", "return_mean"):
        numbers = [x for x in np.ravel(np.asarray(row.get(name), object)) if x is not None]
        if numbers:
            shown[name] = f"{np.mean(numbers):.1f}"
    return shown
