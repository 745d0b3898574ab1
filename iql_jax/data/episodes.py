"""A dataset on its way to transitions: a ``Source`` of ``Episodes``, then ``Steps``."""

import dataclasses
import hashlib
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec

from iql_jax.data.metadata import BoxActions, DiscreteActions
from iql_jax.envs.description import MazeTask
from iql_jax.envs.mazes import GOAL_RADIUS
from iql_jax.utils.arrays import Bool, Float32, Int64


@dataclasses.dataclass(frozen=True, eq=False)
class Episodes:
    """N transitions of E episodes, laid end to end, with M rows of observations.

    A dataset whose observations are single arrays has the one entry 'observation'; an entry of a
    nested Dict is called 'outer/inner'.
    """

    observations: dict[str, Float32]  # [M, d] each.
    rows: Int64  # [N], the row of each transition's observation.
    next_rows: Int64  # [N], the row of its next observation.
    actions: Float32  # [N, action_dim], as stored: of a discrete space, [N, 1] integers.
    rewards: Float32  # [N], as stored.
    terminations: Bool
    lengths: Int64  # [E], transitions in each episode; their sum is N.
    is_dict: bool = False  # Whether the observations are Dicts and not single arrays.

    def first_steps(self) -> Int64:
        """Returns the first transition of each episode, [E]."""
        return np.cumsum(self.lengths) - self.lengths

    def fingerprint(self) -> str:
        """Returns the SHA-256 of all arrays, however the dataset's files store them."""
        digest = hashlib.sha256()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            arrays = value if isinstance(value, dict) else {"": value}
            for name, array in sorted(arrays.items()):
                array = np.ascontiguousarray(array)
                head = f"{field.name}/{name} {array.dtype.str} {array.shape}\n"
                digest.update(head.encode())
                digest.update(array.data)
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A Minari dataset or a file, read, before any of the config's choices."""

    name: str  # The Minari id, or the file's path.
    episodes: Episodes
    evaluation: EnvSpec | None = None
    no_environment: str = "it names no environment"  # Why there is none.
    collection: EnvSpec | None = None  # The maze in which the data were collected, where known.
    action_space: DiscreteActions | BoxActions | None = None  # None: [-1, 1].
    references: tuple[float, float] | None = None  # Returns that score 0 and 100.
    requirements: tuple[str, ...] = ()  # To install for the environment, pip-style.
    # The one goal that all stored rewards of a maze refer to, x and y in meters; None where each
    # episode has its own.
    rewarded_goal: tuple[float, float] | None = None
    goal_radius: float = GOAL_RADIUS  # Meters from a maze's goal within which it is reached.
    model_xml: str | None = None  # The ant's model, where it is not Gymnasium's own.
    about: dict[str, Any] = dataclasses.field(default_factory=dict)  # More for the run record.
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """The n steps that are kept of E episodes, their meaning settled, their numbers raw."""

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
