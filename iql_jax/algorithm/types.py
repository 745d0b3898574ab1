"""The pytrees and names that every other module shares."""

from typing import Any

import flax.struct
import jax
import numpy as np

Array = jax.Array | np.ndarray
Params = Any  # A pytree of arrays, as Flax makes it.
Metrics = dict[str, jax.Array]  # Flat: name -> scalar.

# The objectives that learn from the data's next actions.
NEEDS_NEXT_ACTIONS = ("sarsa", "expectile_sarsa")


class Transitions(flax.struct.PyTreeNode):
    """A batch of transitions, or a whole dataset of them; N is the leading axis.

    A mask is 0 only where the episode truly terminated: at a time limit it stays 1, so that the
    value of the next observation still counts (Pardo et al. 2018).
    """

    observations: Array  # [N, observation_dim] float32
    actions: Array  # [N, action_dim] float32, inside [-1, 1]; one-hot in a discrete space
    rewards: Array  # [N] float32
    masks: Array  # [N] float32, 0 or 1
    next_observations: Array  # [N, observation_dim] float32
    # For ``NEEDS_NEXT_ACTIONS`` alone: the action that followed in the data, and 1 where
    # one did. None does where the data of an episode end.
    next_actions: Array | None = None  # [N, action_dim] float32
    next_action_masks: Array | None = None  # [N] float32, 0 or 1

    @property
    def size(self) -> int:
        """The number of transitions N."""
        return int(self.rewards.shape[0])
