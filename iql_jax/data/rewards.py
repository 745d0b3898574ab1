"""Reward transforms: chosen by name in the config, applied to the dataset and to nothing else.

Each is a scale and a shift, so that what was found from the dataset can be applied to the rewards
of new transitions as well.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from iql_jax.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class RewardTransform:
    """``reward * scale + shift``, in float32."""

    scale: float = 1.0
    shift: float = 0.0

    def __call__(self, rewards: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Transform rewards of any shape."""
        rewards = np.asarray(rewards, dtype=np.float32)
        return rewards * np.float32(self.scale) + np.float32(self.shift)


def _none(rewards: npt.NDArray[np.float32], lengths: npt.NDArray[np.int64]) -> RewardTransform:
    """Rewards as they are."""
    return RewardTransform()


def _minus_one(rewards: npt.NDArray[np.float32], lengths: npt.NDArray[np.int64]) -> RewardTransform:
    """R - 1, for AntMaze: 0 at the goal and -1 elsewhere."""
    return RewardTransform(shift=-1.0)


def episode_returns(
    rewards: npt.NDArray[np.float32], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """The undiscounted return of each episode.

    Args:
        rewards: [n], episode after episode.
        lengths: [E], each at least 1; their sum is n.

    Returns:
        [E].
    """
    starts = np.cumsum(lengths) - lengths
    return np.add.reduceat(rewards.astype(np.float64), starts)


def _return_range(
    rewards: npt.NDArray[np.float32], lengths: npt.NDArray[np.int64]
) -> RewardTransform:
    """Divide by the range of the episodes' returns and multiply by 1000, for locomotion."""
    returns = episode_returns(rewards, lengths)
    spread = float(returns.max() - returns.min())
    if spread == 0:
        raise UserError(
            "config.reward_transform 'return_range' divides by the range of the episodes' returns, "
            f"but all {len(lengths)} episodes return {returns[0]:g}; use 'none' or 'minus_one'"
        )
    return RewardTransform(scale=1000.0 / spread)


REWARD_TRANSFORMS: dict[
    str, Callable[[npt.NDArray[np.float32], npt.NDArray[np.int64]], RewardTransform]
] = {"none": _none, "minus_one": _minus_one, "return_range": _return_range}
"""By name: (rewards [N], episode lengths [E]) -> transform.

An episode is one of the dataset's; the official implementation cuts them at the same places.
"""
