"""A dataset on its way to transitions: what each step means is settled, the numbers are raw."""

import dataclasses
from typing import Any

from iql_jax.envs.description import MazeTask
from iql_jax.utils.arrays import Bool, Float32, Int64


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """The n steps that are kept of E episodes; actions, rewards and observations still raw."""

    observations: Float32  # [n, observation_dim]; in a maze the position comes first.
    next_observations: Float32
    actions: Float32  # [n, width], as stored.
    rewards: Float32
    masks: Float32  # [n], 0 where the episode ends for good.
    lengths: Int64  # [E], steps kept of each episode.
    observation_keys: tuple[str, ...]  # The entries of an observation; empty for a Box.
    notes: tuple[str, ...] = ()
    at_goal: Bool | None = None  # [n], in a maze: the step ends at the goal.
    maze: MazeTask | None = None
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)  # Of the environment.
    choices: dict[str, Any] = dataclasses.field(default_factory=dict)  # For the run record.
