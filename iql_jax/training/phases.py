"""What a run consists of, as the training loop sees it: phases of steps, and how far they are."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from iql_jax.algorithm.types import Array
from iql_jax.outputs.logs import Values
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import StopRequest

State = TypeVar("State")

# Longest stretch of steps without returning to the host: a stop request waits for its end. Part of
# what a run computes (means in metrics.csv are taken stretch by stretch), hence no setting.
MAX_STRETCH = 1_000


@dataclasses.dataclass(frozen=True)
class Stretch(Generic[State]):
    """The outcome of one call of ``Phase.advance``.

    Attributes:
        state: The state after them.
        metrics: Means over their updates, scalars or one for each member; empty if there were none.
        steps: How many steps there were: fewer than asked for after a stop request or a failure.
        updates: How many updates they made.
        failure: What ended them, if the run cannot go on.
    """

    state: State
    metrics: Mapping[str, Array]
    steps: int
    updates: int
    failure: UserError | None = None


@dataclasses.dataclass(frozen=True)
class Phase(Generic[State]):
    """A part of a run.

    Attributes:
        steps: How many it has.
        advance: Makes a number of steps, or fewer if a stop is requested meanwhile.
        stride: Steps are made in multiples of this; ``advance`` is asked for multiples alone.
        max_stretch: It makes no more steps than this at once.
        prepare: Called with a state of the right shapes before ``begin``, once or twice; of the
            phase that a run starts in before anything is written, so that what fails here leaves a
            new run's folder as it was.
        begin: Called once before its first step, of the run or of a resumed run.
        end: Called once another phase begins, or the run is complete, to let go of what it holds.
    """

    steps: int
    advance: Callable[[State, int, StopRequest], Stretch[State]]
    stride: int = 1
    max_stretch: int = MAX_STRETCH
    prepare: Callable[[State], None] = lambda state: None
    begin: Callable[[State], None] = lambda state: None
    end: Callable[[], None] = lambda: None


class Log(Protocol):
    """Where rows go; see ``metrics.RunLog``."""

    def write(self, table: str, step: int, values: Values) -> None:
        """Log a row of one of the tables."""

    def close(self) -> None:
        """Finish all writers."""


class Extra:
    """What a run keeps beside its state and the loop's progress: this one, nothing."""

    def save(self) -> dict[str, Any]:
        """Called before each checkpoint; returns what goes into it, JSON-able."""
        return {}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Begin where ``save`` returned this; empty for a new run."""

    def rows(self) -> Sequence[tuple[str, int, Values]]:
        """Rows (table, step, values) to log since the last call."""
        return []

    def columns(self, updates: float, steps: float) -> dict[str, float | None]:
        """Columns of metrics.csv beside the means, given updates and steps a second."""
        return {"updates_per_second": updates}


@dataclasses.dataclass
class Progress:
    """How far a run is, beside its state; saved with each checkpoint."""

    step: int = 0  # Of all phases.
    updates: int = 0
    logged: int = 0  # Step at which metrics.csv was last due a row; none without an update.
    evaluated: int = 0  # Step of the last row in evaluations.csv.
    metric_sums: dict[str, Any] = dataclasses.field(default_factory=dict)  # Since `logged`.
    summed_updates: int = 0  # In `metric_sums`.
    training_seconds: float = 0.0  # In steps alone.
    training_seconds_logged: float = 0.0  # The same at `logged`.
    eval_seconds: float = 0.0
    wall_seconds: float = 0.0  # Of all sessions up to their last save, start-up included.
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)  # What ``Extra.save`` returned.

    def to_dict(self) -> dict[str, Any]:
        """The progress as plain JSON types."""
        sums = {name: np.asarray(total).tolist() for name, total in self.metric_sums.items()}
        return {**dataclasses.asdict(self), "metric_sums": sums}
