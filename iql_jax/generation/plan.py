"""What there is to know of one dataset before it is made: the makers' side of ``collecting``."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from minari.data_collector import EpisodeBuffer


class ShardLike(Protocol):
    """A part of a dataset that one worker collects: its content depends on nothing else."""

    @property
    def transitions(self) -> int:
        """The number of transitions."""


Shard = TypeVar("Shard", bound=ShardLike)
Recording = TypeVar("Recording")


@dataclasses.dataclass(frozen=True)
class ScoreRun:
    """Episodes in the evaluation environment that one worker runs, for the reference scores.

    Attributes:
        task: the maker's name of the task.
        seed: the dataset's.
        first_episode: the number of the first episode.
        episodes: the number of episodes.
        planned: whether the collecting policy acts, without noise, or uniformly random actions.
    """

    task: str
    seed: int
    first_episode: int
    episodes: int
    planned: bool


@dataclasses.dataclass(frozen=True)
class Returns:
    """Sums of the rewards of E episodes: [E] float64."""

    values: npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Plan(Generic[Shard, Recording]):
    """What is particular to one dataset. The functions have to be importable by name.

    Attributes:
        dataset_id: the id to store it under.
        task: the maker's name of the task.
        steps: the number of transitions.
        seed: the randomness of all shards and scores follows from it.
        env_spec: the environment that the data come from.
        eval_env_spec: the evaluation environment.
        observation_space: the space of the observations.
        action_space: the space of the actions.
        shards: what the workers collect, in the order of the dataset.
        collect_shard: collects one.
        recording: what it returns: a dataclass of arrays.
        episodes: brings a recording into Minari's form.
        score_run: runs the episodes of a ``ScoreRun``.
        episodes_per_score_run: how many episodes such a run has, at most.
        file_bytes: a bound on what a transition takes in Minari's file.
        part_bytes: a bound on what a transition takes in a recording.
        steps_worth_processes: the number of transitions that makes up for the start of processes.
        algorithm: what acted, for the metadata.
        description: what the dataset holds, in whole sentences.
        requirements: what to install for the environments, pip-style.
        choices: further numbers on which the content depends, for the record.
    """

    dataset_id: str
    task: str
    steps: int
    seed: int
    env_spec: EnvSpec
    eval_env_spec: EnvSpec
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    shards: Sequence[Shard]
    collect_shard: Callable[[Shard], Recording]
    recording: type[Recording]
    episodes: Callable[[Recording], list[EpisodeBuffer]]
    score_run: Callable[[ScoreRun], Returns]
    episodes_per_score_run: int
    file_bytes: int
    part_bytes: int
    steps_worth_processes: int
    algorithm: str
    description: str
    requirements: tuple[str, ...]
    choices: dict[str, Any]
