"""The procedure of a generator, and its random streams."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from minari.data_collector import EpisodeBuffer

from iql_jax.envs.mazes import at_goal
from iql_jax.generation.maze_tasks import MazeTask
from iql_jax.utils.arrays import Float32, Float64

_COLLECTING = 0  # scripts/reference_returns.py has spawn keys (1, episode).


@dataclasses.dataclass(frozen=True)
class Shard:
    """Balls or ants, each for so many steps; these depend on nothing else."""

    task: MazeTask
    seed: int
    first: int  # Which ball or ant of the dataset is the first one.
    count: int
    steps: int
    stay: int = 0  # Steps at the goal, or around it, after which an episode ends.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Procedure:
    """The generation of one dataset."""

    task: MazeTask
    shards: Sequence[Shard]  # What worker processes collect, in the order of the dataset.
    # Returns the episodes of a shard; importable by name. Its second argument may raise.
    collect: Callable[[Shard, Callable[[], None]], list[EpisodeBuffer]]
    metadata: dict[str, str]  # Entries of Minari's metadata.
    choices: dict[str, Any]  # What the content depends on besides the version of the package.


def randomness(seed: int, index: int) -> tuple[int, np.random.Generator]:
    """Returns the first reset's seed, and a generator, for one ball or ant of a dataset."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_COLLECTING, index))
    return int(sequence.generate_state(1)[0]), np.random.default_rng(sequence)


def maze_episode(
    observations: Float64,
    positions: Float64,
    actions: Float32,
    goal: Float64,
    seed: int | None,
) -> EpisodeBuffer:
    """Returns T steps to one goal ([2] meters), which ends nothing, in the form of Minari's mazes.

    Observations are [T + 1, observation_dim], positions [T + 1, 2] in meters, actions [T,
    action_dim]. The seed is that of the reset, where the episode starts with one.
    """
    goals = np.tile(goal, (len(positions), 1))
    seen = {"observation": observations, "achieved_goal": positions, "desired_goal": goals}
    return EpisodeBuffer(
        seed=seed,
        observations=seen,
        actions=actions,
        rewards=at_goal(positions, goals)[1:].astype(np.float64),
        terminations=np.zeros(len(actions), dtype=np.bool_),
        truncations=np.arange(len(actions)) == len(actions) - 1,
    )
