"""A run in progress: it counts steps, and where an interval ends it logs, evaluates and saves.

A run consists of one or two phases, each with its own kind of step: an update offline, an
environment step online. Intervals are counted within a phase, and every one ends with its phase as
well. At a boundary the run logs, evaluates and saves, in this order. A checkpoint remembers which
of these were done at its step, so that a resumed run does exactly what an uninterrupted one would.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Self

import jax
import numpy as np
from tqdm import tqdm

from iql_jax.algorithm import IQLState
from iql_jax.outputs.checkpoints import Checkpoints, newest_step
from iql_jax.outputs.logs import RunLog, Values
from iql_jax.training.online import Online
from iql_jax.training.run import Run
from iql_jax.utils.arrays import Float64
from iql_jax.utils.console import logger
from iql_jax.utils.errors import Diverged, UserError
from iql_jax.utils.signals import Interrupted, StopRequest

Means = dict[str, Float64]
"""Mean metrics of a chunk of updates: scalars, or one number for each member of a population."""

Evaluate = Callable[[Any, int, StopRequest], Values]
"""Returns a row of evaluations.csv, given a state, its step and what asks to stop."""

# The longest chunk of steps without returning to the host: a stop request waits for its end. It is
# part of what a run computes (means in metrics.csv are sums over chunks), hence no setting.
MAX_CHUNK = 1_000


@dataclasses.dataclass
class Progress:
    """The progress of a run, saved with each checkpoint."""

    step: int = 0  # Of all phases.
    updates: int = 0
    logged: int = 0  # Step at which metrics.csv was last due a row.
    evaluated: int = 0  # Step of the last row of evaluations.csv.
    metric_sums: dict[str, Any] = dataclasses.field(default_factory=dict)  # Since `logged`.
    summed_updates: int = 0  # In `metric_sums`.
    training_seconds: float = 0.0  # In steps alone.
    training_seconds_logged: float = 0.0  # The same at `logged`.
    eval_seconds: float = 0.0
    wall_seconds: float = 0.0  # Of all sessions up to their last save, start-up included.
    companion: Any = None  # What ``Online.save`` returned.

    def to_dict(self) -> dict[str, Any]:
        """Returns the progress as plain JSON types."""
        sums = {name: np.asarray(total).tolist() for name, total in self.metric_sums.items()}
        return {**dataclasses.asdict(self), "metric_sums": sums}


class Session:
    """One life of a run, from a start or resume to its end or interruption; a context manager.

    Entering restores the newest checkpoint. Leaving by a stop request saves the state. Whoever
    makes steps replaces ``state``.
    """

    on_progress: ClassVar[Callable[[tuple[int, int]], None] | None] = None
    """Where the process is one of several: is told the steps done, and all of them."""

    def __init__(
        self,
        run: Run,
        template: IQLState,  # The state before the first step.
        *,
        end: int,  # The last step of the last phase.
        unit: str = "update",  # What a step is called: the first column of the tables.
        first_step: int = 0,  # Where the first phase starts.
        tables: Sequence[str] = (),  # Besides metrics and evaluations.
        companion: Online | None = None,  # What else is saved and restored.
        stop: StopRequest | None = None,
    ) -> None:
        self.folder = run.folder
        self.state = template
        self.progress = Progress(step=first_step, logged=first_step)
        self.stop = StopRequest() if stop is None else stop
        self._run, self._config = run, run.config
        self._first, self._end = first_step, end
        self._unit = unit
        self._tables = tables
        self._companion = companion
        self._phase = range(first_step, end)
        self._stride, self._rate = 1, ""
        self._chunk_started = 0.0

    @property
    def step(self) -> int:
        """The run's step."""
        return self.progress.step

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._checkpoints = stack.enter_context(Checkpoints(self.folder / "checkpoints"))
            restored = self._checkpoints.restore_newest(self._pack(self.state))
            if restored is not None:
                self.state, self.progress = self._unpack(restored[0]), Progress(**restored[1])
                logger.info(f"resuming {self.folder} at {self._unit} {self.step:,}")
            if self._companion is not None:
                self._companion.restore(self.progress.companion)
            self._wall_before = self.progress.wall_seconds
            self._log = self._open_log(
                {
                    "metrics": self.progress.logged,
                    "evaluations": self.progress.evaluated,
                    **dict.fromkeys(self._tables, self.step),
                }
            )
            stack.callback(self._log.close)
            self._bar = tqdm(
                total=self._end,
                initial=self.step,
                unit=self._unit,
                disable=not self._config.progress,
                smoothing=0.1,
                dynamic_ncols=True,
            )
            stack.callback(self._bar.close)
            stack.enter_context(self.stop)
            self._open = stack.pop_all()
        self._tell()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        with self._open:
            if isinstance(error, Interrupted):
                self.save()
                raise Interrupted(
                    error.signum,
                    f"{error} at {self._unit} {self.step:,}; saved in {self.folder}",
                    resumable=True,
                ) from None

    def enter_phase(self, begin: int, end: int, stride: int = 1, rate: str = "") -> None:
        """Counts intervals from step ``begin`` on, and ends the last ones at ``end``.

        Steps are made in multiples of ``stride``; intervals that end between are rounded up.
        ``rate`` is the column of metrics.csv for steps a second, where they are not updates.
        """
        self._phase, self._stride, self._rate = range(begin, end), stride, rate

    def steps_until_due(self) -> int:
        """Returns how many steps to make before something may be due, and start the clock."""
        self._chunk_started = time.perf_counter()
        config, stride = self._config, self._stride
        intervals = (config.log_interval, config.eval_interval, config.checkpoint_interval)
        # Rounded down, for it is a bound.
        longest = self._longest_chunk()
        whole = [*map(self._in_strides, intervals), longest - longest % stride or stride]
        done = self.step - self._phase.start
        return min(self._phase.stop - self.step, *(each - done % each for each in whole))

    def record(self, metrics: Mapping[str, Any], *, steps: int, updates: int) -> None:
        """Counts a chunk of steps, and add up its metrics: means over its updates, if any.

        Raises:
            Diverged: If a metric is not finite.
        """
        progress = self.progress
        means = self._means(metrics, steps)
        progress.training_seconds += time.perf_counter() - self._chunk_started
        for name, mean in means.items():
            total = np.asarray(progress.metric_sums.get(name, 0.0)) + mean * updates
            progress.metric_sums[name] = total
        progress.step += steps
        progress.updates += updates
        progress.summed_updates += updates
        # A population continues while any of its members is finite.
        broken = [name for name, mean in means.items() if not np.isfinite(mean).any()]
        if broken:
            between = f"between {self._unit}s {self.step - steps:,} and {self.step:,}"
            self.diverge(f"{', '.join(broken)} not finite {between}")
        self._bar.update(steps)
        self._tell()

    def log_if_due(self) -> None:
        """Writes a row of metrics.csv where its interval ends."""
        progress = self.progress
        if not self._is_due(self._config.log_interval, progress.logged):
            return
        num_updates = progress.summed_updates
        if num_updates:
            sums = progress.metric_sums.items()
            row = {name: (np.asarray(total) / num_updates).tolist() for name, total in sums}
            seconds = progress.training_seconds - progress.training_seconds_logged
            row["updates_per_second"] = num_updates / seconds
            if self._rate:
                row[self._rate] = (self.step - progress.logged) / seconds
            self.write("metrics", {**row, **self._clock()})
        progress.logged, progress.metric_sums, progress.summed_updates = self.step, {}, 0
        progress.training_seconds_logged = progress.training_seconds

    def evaluate_if_due(self, evaluate: Evaluate | None) -> None:
        """Writes a row of evaluations.csv where its interval ends; None never evaluates."""
        due = self._is_due(self._config.eval_interval, self.progress.evaluated)
        if evaluate is None or not due:
            return
        start = time.perf_counter()
        try:
            row = evaluate(self.state, self.step, self.stop)
        except Diverged as error:
            self.diverge(str(error))
        except UserError as error:
            self.fail(error)
        seconds = time.perf_counter() - start
        self.progress.eval_seconds += seconds
        self.write("evaluations", {**row, "eval_seconds": seconds, **self._clock()})
        self.progress.evaluated = self.step
        self._bar.set_postfix(_shown(row), refresh=True)

    def save_if_due(self) -> None:
        """Saves a checkpoint where its interval ends."""
        if self._is_due(self._config.checkpoint_interval, 0):
            self.save()

    def save(self) -> None:
        """Saves a checkpoint now."""
        self._clock()
        if self._companion is not None:
            self.progress.companion = self._companion.save()
        self._checkpoints.save(self.step, self._pack(self.state), self.progress.to_dict())

    def write(self, table: str, values: Values, step: int | None = None) -> None:
        """Logs a row of one of the tables, at the current step unless another is given."""
        self._log.write(table, self.step if step is None else step, values)

    def fail(self, error: UserError) -> NoReturn:
        """Saves after an environment's failure, and raises it."""
        self.stop.check()  # A signal to the process group may have ended the workers.
        self.save()
        saved = f"{self._unit} {self.step:,} is saved in {self.folder}"
        raise UserError(f"{error}; {saved}") from error

    def diverge(self, reason: str) -> NoReturn:
        """Ends a run with a number that is not finite; its checkpoints stay."""
        newest = newest_step(self.folder / "checkpoints")
        good = "" if newest is None else f"; the state of {newest:,} is in checkpoints"
        raise Diverged(f"{reason}{good}; check the data's rewards, or lower the learning rates")

    # What a population does in another way.

    def _pack(self, state: IQLState) -> Any:
        """Returns what a checkpoint holds of a state."""
        return state

    def _unpack(self, packed: Any) -> IQLState:
        """Returns the state that ``_pack`` packed."""
        return packed

    def _means(self, metrics: Mapping[str, Any], steps: int) -> Means:
        """Fetches the metrics of the last ``steps`` steps from the device."""
        found = jax.device_get(dict(metrics))
        return {name: np.asarray(mean, np.float64) for name, mean in found.items()}

    def _open_log(self, last_steps: Mapping[str, int]) -> Any:
        """Opens the logs; each table keeps its rows up to a step."""
        project = self._config.wandb_project
        return RunLog(self.folder, last_steps, project, self._run.record, self._unit)

    def _longest_chunk(self) -> int:
        """Returns the most steps to make before a stop request is looked at."""
        return MAX_CHUNK

    def _tell(self) -> None:
        if Session.on_progress is not None:
            Session.on_progress((self.step - self._first, self._end - self._first))

    def _in_strides(self, interval: int) -> int:
        """Returns the interval, or the first multiple of the stride above it."""
        return -(-interval // self._stride) * self._stride

    def _is_due(self, interval: int, done: int) -> bool:
        """Returns whether an interval or the phase ends at this step, not ``done`` there yet."""
        since = self.step - self._phase.start
        ends = since % self._in_strides(interval) == 0 or self.step == self._phase.stop
        return self.step > done and ends

    def _clock(self) -> dict[str, float]:
        """Brings the run's wall time up to date and returns it."""
        now = time.perf_counter() - self._run.started
        self.progress.wall_seconds = self._wall_before + now
        return {"wall_seconds": self.progress.wall_seconds}


def _shown(row: Values) -> dict[str, str]:
    """Returns an evaluation for the progress bar: means over the members of a population."""
    shown = {}
    for name in ("score", "return_mean"):
        numbers = [x for x in np.ravel(np.asarray(row.get(name), object)) if x is not None]
        if numbers:
            shown[name] = f"{np.mean(numbers):.1f}"
    return shown
