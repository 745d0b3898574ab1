"""The progress of a run, and the shapes of what goes with it."""

import dataclasses
from typing import Any, Protocol

import numpy as np

from iql_jax.utils.arrays import Float64

Means = dict[str, Float64]
"""Mean metrics of a chunk of updates: scalars, or one number for each member of a population."""


class Saved(Protocol):
    """Something that is saved and restored with the state."""

    def save(self) -> Any:
        """Returns a JSON-able value for the checkpoint that is being written."""

    def restore(self, saved: Any) -> None:
        """Continues where ``save`` returned this; None in a new run."""


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
    companion: Any = None  # What ``Saved.save`` returned.

    def to_dict(self) -> dict[str, Any]:
        """Returns the progress as plain JSON types."""
        sums = {name: np.asarray(total).tolist() for name, total in self.metric_sums.items()}
        return {**dataclasses.asdict(self), "metric_sums": sums}
