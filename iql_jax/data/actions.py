"""Actions as the policy makes them: inside [-1, 1] whatever their range, or one-hot."""

import dataclasses
from typing import Any

import numpy as np

from iql_jax.data.metadata import BoxActions, DiscreteActions
from iql_jax.utils.arrays import Float32, Int64
from iql_jax.utils.errors import UserError

ACTION_LIMIT = 1 - 1e-5
"""Actions of the data are clipped to this size, as the official implementation does."""

Bounds = tuple[Float32, Float32]


@dataclasses.dataclass(frozen=True, eq=False)
class LearnableActions:
    """A dataset's actions as the policy makes them."""

    values: Float32  # [N, action_dim]
    notes: list[str]
    discrete: DiscreteActions | None = None  # Their space, where it is discrete.
    bounds: Bounds | None = None  # The environment's range, where it has to be rescaled.

    def choices(self) -> dict[str, Any]:
        """Returns the entries of the run record."""
        bounds = None if self.bounds is None else [bound.tolist() for bound in self.bounds]
        discrete = {} if self.discrete is None else {"discrete": dataclasses.asdict(self.discrete)}
        return {"action_range": bounds, **discrete}


def learnable_actions(
    actions: Float32, space: DiscreteActions | BoxActions | None, name: str
) -> LearnableActions:
    """Encodes a dataset's actions [N, width], as stored, for the policy.

    ``space`` None means [-1, 1]; ``name`` is the dataset's.

    Raises:
        UserError: if they do not fit their space, or it has no bounds.
    """
    if isinstance(space, DiscreteActions):
        return LearnableActions(one_hot(actions, space, name), [], discrete=space)
    bounds, notes = None, []
    if space is not None and not ((space.low == -1).all() and (space.high == 1).all()):
        bounds = low, high = space.low, space.high
        fits = np.isfinite(low) & np.isfinite(high) & (low < high)
        if not fits.all():
            k = int(np.argmin(fits))
            raise UserError(
                f"{name} has actions between {low[k]} and {high[k]} (component {k}); bounds must "
                "be finite, and the lower one less: correct its action_space"
            )
        actions = (actions - low) / (high - low) * 2 - 1
        notes.append("actions are rescaled from the environment's range to [-1, 1]")
    outside = int((np.abs(actions) > 1 + 1e-6).any(axis=1).sum())
    if outside:
        notes.append(
            f"{outside:,} actions ({100 * outside / len(actions):.3g} %) lay outside the action "
            f"space, as far as {np.abs(actions).max():.3g} where 1 is its end, and are clipped"
        )
    values = np.clip(actions, -ACTION_LIMIT, ACTION_LIMIT, dtype=np.float32)
    return LearnableActions(values, notes, bounds=bounds)


def one_hot(actions: Float32, space: DiscreteActions, name: str) -> Float32:
    """Turns integers [N, 1] into [N, n]; raises ``UserError`` if one lies outside the space."""
    choices = actions[:, 0].astype(np.int64) - space.start
    outside = (choices < 0) | (choices >= space.n)
    if outside.any():
        raise UserError(
            f"{name} holds the action {int(actions[outside][0, 0])}, but its action space has the "
            f"integers from {space.start} to {space.start + space.n - 1}"
        )
    encoded = np.zeros((len(choices), space.n), np.float32)
    encoded[np.arange(len(choices)), choices] = 1.0
    return encoded


def next_action_fields(actions: Float32, lengths: Int64) -> dict[str, Float32]:
    """Returns ``next_actions`` and ``next_action_masks``: 0 at the last step of each episode."""
    last = np.cumsum(lengths) - 1
    following = np.roll(actions, -1, axis=0)
    following[last] = 0.0
    masks = np.ones(len(actions), np.float32)
    masks[last] = 0.0
    return {"next_actions": following, "next_action_masks": masks}
