"""A dataset on its way to transitions: what each step means is settled, the numbers are raw."""

import dataclasses
from typing import Any

from iql_jax.envs.description import MazeTask
from iql_jax.utils.arrays import Bool, Float32, Int64


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """The n steps that are kept of E episodes; actions, rewards and observations still raw.

    Attributes:
        observations: [n, observation_dim] float32; in a maze the position comes first.
        next_observations: [n, observation_dim] float32.
        actions: [n, width] float32, as stored.
        rewards: [n] float32.
        masks: [n] float32: 0 where the episode ends for good.
        lengths: [E] int64, steps kept of each episode.
        observation_keys: the entries that make up an observation, in order; empty for a Box.
        notes: what the user should know.
        at_goal: [n] bool, in a maze: whether a step ends within the goal's radius.
        maze: what a maze is evaluated on.
        kwargs: what to build the evaluation environment with, over its specification.
        choices: what was decided on the way, for the record.
    """

    observations: Float32
    next_observations: Float32
    actions: Float32
    rewards: Float32
    masks: Float32
    lengths: Int64
    observation_keys: tuple[str, ...]
    notes: tuple[str, ...] = ()
    at_goal: Bool | None = None
    maze: MazeTask | None = None
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    choices: dict[str, Any] = dataclasses.field(default_factory=dict)
