"""Episodes of a dataset as flat arrays, as stored, and what is known of them: a ``Source``."""

import dataclasses
import hashlib
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec

from iql_jax.data.metadata import BoxActions, DiscreteActions
from iql_jax.utils.arrays import Bool, Float32, Int64


@dataclasses.dataclass(frozen=True, eq=False)
class Episodes:
    """N transitions of E episodes, laid end to end, with M rows of observations.

    Attributes:
        observations: [M, d] float32 for each entry of the observations; a dataset whose
            observations are single arrays has the one entry 'observation', an entry of a nested
            Dict is called 'outer/inner'.
        rows: [N] int64, the row of each transition's observation.
        next_rows: [N] int64, the row of its next observation.
        actions: [N, action_dim] float32, as stored: of a discrete space, [N, 1] integers.
        rewards: [N] float32, as stored.
        terminations: [N] bool.
        lengths: [E] int64, transitions in each episode; their sum is N.
        is_dict: whether the observations are Dicts and not single arrays.
    """

    observations: dict[str, Float32]
    rows: Int64
    next_rows: Int64
    actions: Float32
    rewards: Float32
    terminations: Bool
    lengths: Int64
    is_dict: bool = False

    @property
    def num_transitions(self) -> int:
        """N."""
        return int(self.rewards.shape[0])

    @property
    def num_episodes(self) -> int:
        """E."""
        return int(self.lengths.shape[0])

    def first_steps(self) -> Int64:
        """Returns the first transition of each episode, [E]."""
        return np.cumsum(self.lengths) - self.lengths

    def fingerprint(self) -> str:
        """Returns the SHA-256 over all arrays, their names, types and shapes, in hexadecimal.

        It depends on what the dataset holds and not on how its files store it.
        """
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
    """A Minari dataset or a file, read, before any of the config's choices.

    Attributes:
        name: the Minari id, or the file's path.
        episodes: what it holds.
        evaluation: the specification of the evaluation environment, where there is one.
        no_environment: why there is none.
        collection: the specification of the maze in which the data were collected, where known.
        action_space: of what the actions are; None where nothing says, and [-1, 1] is taken.
        references: the returns that score 0 and 100, where they are known.
        requirements: what to install for the environment, pip-style.
        rewarded_goal: x and y in metres of the one goal that all stored rewards of a maze refer to,
            where it is known; None where each episode has its own.
        model_xml: the text of the ant's model, where it is not Gymnasium's own.
        about: more for the run's record.
        notes: what the user should know.
    """

    name: str
    episodes: Episodes
    evaluation: EnvSpec | None = None
    no_environment: str = "it names no environment"
    collection: EnvSpec | None = None
    action_space: DiscreteActions | BoxActions | None = None
    references: tuple[float, float] | None = None
    requirements: tuple[str, ...] = ()
    rewarded_goal: tuple[float, float] | None = None
    model_xml: str | None = None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
