"""What a generator says of its dataset: where the data come from and how they are collected."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from minari.data_collector import EpisodeBuffer

_COLLECTING = (
    0  # Spawn keys (1, episode) are those of the episodes of scripts/reference_returns.py.
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Procedure:
    """How one dataset is generated.

    Attributes:
        env_spec: the environment that the data come from.
        observation_space: the space of the observations.
        action_space: the space of the actions.
        shards: what worker processes collect, in the order of the dataset.
        collect: collects the episodes of a shard; a function that can be imported by name. Now and
            then it calls its second argument, which may raise.
        metadata: entries of Minari's metadata.
        choices: numbers on which the content depends, for the metadata.
    """

    env_spec: EnvSpec
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    shards: Sequence[Any]
    collect: Callable[[Any, Callable[[], None]], list[EpisodeBuffer]]
    metadata: dict[str, Any]
    choices: dict[str, Any] = dataclasses.field(default_factory=dict)


def randomness(seed: int, index: int) -> tuple[int, np.random.Generator]:
    """Returns the seed of a reset, and a generator, that no other index shares.

    Args:
        seed: the dataset's.
        index: the number of the shard, ant or episode.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(_COLLECTING, index))
    return int(sequence.generate_state(1)[0]), np.random.default_rng(sequence)
