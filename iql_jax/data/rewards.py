"""Reward transforms: chosen by name in the config, applied to the dataset and to nothing else.

Each is a scale and a shift, so that what was found from the dataset can be applied to the rewards
of new transitions as well.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from iql_jax.utils.arrays import Float32, Float64, Int64
from iql_jax.utils.errors import UserError

_SMALL_RANGE = 0.1  # Of the size of returns: dividing by less makes rewards large.


@dataclasses.dataclass(frozen=True)
class RewardTransform:
    """``reward * scale + shift``, in float32."""

    scale: float = 1.0
    shift: float = 0.0

    def __call__(self, rewards: npt.ArrayLike) -> Float32:
        """Transforms rewards of any shape."""
        rewards = np.asarray(rewards, dtype=np.float32)
        return rewards * np.float32(self.scale) + np.float32(self.shift)


def episode_returns(rewards: Float32, lengths: Int64) -> Float64:
    """Returns the undiscounted return [E] of each episode, from rewards [n] laid end to end."""
    starts = np.cumsum(lengths) - lengths
    return np.add.reduceat(rewards.astype(np.float64), starts)


def reward_transform(
    name: str, rewards: Float32, lengths: Int64
) -> tuple[RewardTransform, list[str]]:
    """Finds a dataset's reward transform, and notes on it, from rewards [N] and lengths [E].

    'none' leaves rewards as they are; 'minus_one', for AntMaze, makes 0 of a reward at the goal and
    -1 of others; 'return_range', for locomotion, divides by the range of the episodes' returns and
    multiplies by 1,000.

    Raises:
        UserError: if all episodes return the same, and it is 'return_range'.
    """
    if name == "minus_one":
        return RewardTransform(shift=-1.0), []
    if name != "return_range":
        return RewardTransform(), []
    returns = episode_returns(rewards, lengths)
    low, high = float(returns.min()), float(returns.max())
    if low == high:
        raise UserError(
            "config.reward_transform 'return_range' divides by the range of the episodes' returns, "
            f"but all {len(lengths)} episodes return {low:g}; use 'none' or 'minus_one'"
        )
    scale = 1000.0 / (high - low)
    notes = [f"rewards are multiplied by {scale:.4g}: returns go from {low:,.6g} to {high:,.6g}"]
    if high - low < _SMALL_RANGE * max(abs(low), abs(high)):
        notes.append(
            f"the {len(lengths):,} episodes return almost the same, so that rewards become large "
            f"(up to {scale * float(np.abs(rewards).max()):,.0f}) and the critics may diverge: "
            "config.reward_transform='none' leaves them as they are"
        )
    return RewardTransform(scale=scale), notes
