"""Transitions, and the aliases that every module of the algorithm shares."""

from typing import Any

import flax.struct
import jax
import numpy as np

Array = jax.Array | np.ndarray
Params = Any  # A pytree of arrays, as Flax makes it.
Metrics = dict[str, jax.Array]  # Flat: name -> scalar.

NEEDS_NEXT_ACTIONS = ("sarsa", "expectile_sarsa")
"""The objectives that learn from the data's next actions."""


class Transitions(flax.struct.PyTreeNode):
    """A batch of transitions, or a whole dataset of them; N is the leading axis.

    A mask is 0 only where the episode truly terminated. At a time limit it stays 1, so the value of
    the next observation still counts (Pardo et al. 2018, https://arxiv.org/abs/1712.00378).
    """

    observations: Array  # [N, observation_dim] float32
    actions: Array  # [N, action_dim] float32, inside [-1, 1]; one-hot in a discrete space
    rewards: Array  # [N] float32
    masks: Array  # [N] float32, 0 or 1
    next_observations: Array  # [N, observation_dim] float32
    # Only for the objectives ``NEEDS_NEXT_ACTIONS``: the action that followed in the data, and 1
    # where one did; at the end of an episode's data, none does.
    next_actions: Array | None = None  # [N, action_dim] float32
    next_action_masks: Array | None = None  # [N] float32, 0 or 1

    @property
    def size(self) -> int:
        """The number of transitions N."""
        return int(self.rewards.shape[0])
