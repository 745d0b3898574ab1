"""The training loop: intervals of updates, and what happens between them.

The loop knows update counts and nothing else: how to advance, evaluate and describe a run are
functions it is given. At each boundary it logs, evaluates and saves, in that order, each at its own
interval; a checkpoint remembers which of these were done at its update count, so that a resumed run
does exactly what an uninterrupted one would have done.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

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

# Longest stretch of updates without returning to the host: a stop request waits for its end. Part
# of what a run computes (means in metrics.csv are taken stretch by stretch), hence fixed.
MAX_STRETCH = 1_000


@dataclasses.dataclass
class Progress:
    """How far a run is, beside its state; saved with each checkpoint."""

    update: int = 0
    logged: int = 0  # Update count of the last row in metrics.csv.
    evaluated: int = 0  # Update count of the last row in evaluations.csv.
    metric_sums: dict[str, float] = dataclasses.field(default_factory=dict)  # Since `logged`.
    training_seconds: float = 0.0  # In updates alone.
    training_seconds_logged: float = 0.0  # The same at `logged`.
    eval_seconds: float = 0.0
    wall_seconds: float = 0.0  # Of all sessions up to their last save, start-up included.


@dataclasses.dataclass(frozen=True)
class Loop(Generic[State]):
    """What the loop needs to carry a run from any of its states to the end.

    Attributes:
        config: The settings; of these the loop reads budgets, intervals and displays.
        folder: The run's folder.
        record: The run's record, as ``config.json`` has it.
        advance: Makes the given number of updates; returns the state after and mean metrics.
        evaluate: Returns a row for evaluations.csv; None to train without evaluation.
        template: The state before the first update.
        started: ``time.perf_counter()`` when the program started.
    """

    config: Config
    folder: Path
    record: Mapping[str, Any]
    advance: Callable[[State, int], tuple[State, Metrics]]
    evaluate: Callable[[State, int, StopRequest], dict[str, float | None]] | None
    template: State
    started: float

    def run(self) -> tuple[State, Progress]:
        """Start, or go on from the newest checkpoint, and train to ``max_steps``.

        Raises:
            Interrupted: After SIGINT or SIGTERM, with the state saved.
            UserError: On a number that is not finite, with the state saved for diagnosis.
        """
        with Checkpoints(self.folder / "checkpoints") as checkpoints:
            state, progress = self.template, Progress()
            restored = checkpoints.restore_newest(self.template)
            if restored is not None:
                state, progress = restored[0], Progress(**restored[1])
                say(f"resuming {self.folder} at update {progress.update:,}")
            log = RunLog(
                self.folder,
                {"metrics": progress.logged, "evaluations": progress.evaluated},
                self.config.wandb_project,
                self.record,
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
        self._bar = tqdm(
            total=self._config.max_steps,
            initial=progress.update,
            unit="update",
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
                if self._progress.update == self._config.max_steps:
                    return state
                stop.check()
                state = self._advance(state)
        except Interrupted as interrupted:
            self._save(state)
            raise Interrupted(
                interrupted.signum,
                f"{interrupted} at update {self._progress.update:,}; saved in {self._loop.folder}",
                resumable=True,
            ) from None

    def _next_boundary(self) -> int:
        intervals = (
            self._config.log_interval,
            self._config.eval_interval,
            self._config.checkpoint_interval,
            MAX_STRETCH,
        )
        update = self._progress.update
        return min(self._config.max_steps, *(update - update % i + i for i in intervals))

    def _advance(self, state: State) -> State:
        progress = self._progress
        num_updates = self._next_boundary() - progress.update
        start = time.perf_counter()
        state, metrics = self._loop.advance(state, num_updates)
        means = {name: float(mean) for name, mean in jax.device_get(metrics).items()}
        progress.training_seconds += time.perf_counter() - start
        for name, mean in means.items():
            progress.metric_sums[name] = progress.metric_sums.get(name, 0.0) + mean * num_updates
        progress.update += num_updates
        self._stop_if_not_finite(state, means, num_updates)
        self._bar.update(num_updates)
        return state

    def _due(self, interval: int, done: int) -> bool:
        update = self._progress.update
        return update > done and (update % interval == 0 or update == self._config.max_steps)

    def _log_if_due(self) -> None:
        progress = self._progress
        if not self._due(self._config.log_interval, progress.logged):
            return
        num_updates = progress.update - progress.logged
        row = {name: total / num_updates for name, total in progress.metric_sums.items()}
        seconds = progress.training_seconds - progress.training_seconds_logged
        self._log.write(
            "metrics",
            progress.update,
            {**row, "updates_per_second": num_updates / seconds, **self._clock()},
        )
        progress.logged, progress.metric_sums = progress.update, {}
        progress.training_seconds_logged = progress.training_seconds

    def _evaluate_if_due(self, state: State, stop: StopRequest) -> None:
        progress = self._progress
        if self._loop.evaluate is None or not self._due(
            self._config.eval_interval, progress.evaluated
        ):
            return
        start = time.perf_counter()
        row = self._loop.evaluate(state, progress.update, stop)
        seconds = time.perf_counter() - start
        progress.eval_seconds += seconds
        self._log.write(
            "evaluations", progress.update, {**row, "eval_seconds": seconds, **self._clock()}
        )
        progress.evaluated = progress.update
        shown = {k: f"{row[k]:.1f}" for k in ("score", "return_mean") if row.get(k) is not None}
        self._bar.set_postfix(shown, refresh=True)

    def _save_if_due(self, state: State) -> None:
        if self._due(self._config.checkpoint_interval, 0):
            self._save(state)

    def _save(self, state: State) -> None:
        self._clock()
        self._checkpoints.save(self._progress.update, state, dataclasses.asdict(self._progress))

    def _clock(self) -> dict[str, float]:
        """Bring the run's wall time up to date and return it."""
        now = time.perf_counter() - self._loop.started
        self._progress.wall_seconds = self._wall_before + now
        return {"wall_seconds": self._progress.wall_seconds}

    def _stop_if_not_finite(self, state: State, means: dict[str, float], num_updates: int) -> None:
        broken = [name for name, mean in means.items() if not math.isfinite(mean)]
        if not broken:
            return
        update = self._progress.update
        folder = self._loop.folder / "diagnosis"
        with Checkpoints(folder) as diagnosis:
            diagnosis.save(update, state, dataclasses.asdict(self._progress))
        raise UserError(
            f"{', '.join(broken)} not finite between updates {update - num_updates:,} and "
            f"{update:,}; the state is saved in {folder} for diagnosis, and the last good one is "
            "in checkpoints; check the data's rewards, or lower the learning rates"
        )
