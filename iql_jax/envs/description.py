"""Descriptions of environments, which travel to worker processes."""

import dataclasses
from typing import Any

from iql_jax.envs.mazes import MazeMap
from iql_jax.envs.specs import parse_spec
from iql_jax.utils.arrays import Float32


@dataclasses.dataclass(frozen=True)
class MazeTask:
    """A maze and the fixed goal of its evaluation, in meters; None: each episode's is drawn."""

    map: MazeMap
    goal: tuple[float, float] | None


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class EnvironmentDescription:
    """Everything that a process needs to build an environment; picklable, without live objects.

    Attributes:
        spec: Gymnasium's ``EnvSpec`` as JSON, as the dataset's metadata hold it.
        kwargs: Arguments of the environment's constructor that replace those in ``spec``.
        observation_keys: The entries of a Dict observation to concatenate, in order ('a/b' for an
            entry of a nested Dict); empty for a Box.
        observation_mean: [observation_dim], subtracted from observations, or None.
        observation_std: [observation_dim], by which they are then divided, or None.
        maze: The maze task, or None for other environments.
        trusted: Whether environments from unknown namespaces may be imported.
        action_low: [action_dim], the environment's action that the policy's -1 stands for; None
            where the dataset's actions lie in [-1, 1] already.
        action_high: [action_dim], likewise for 1.
        requirements: The packages that the dataset's metadata ask for, pip-style.
        discrete_start: The first of the environment's actions where they are integers, of which the
            dataset's are one-hot vectors; None where they are continuous.
        model_xml: The text of a MuJoCo model that the constructor gets as the file ``xml_file``.
    """

    spec: str
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    observation_dim: int
    action_dim: int
    observation_keys: tuple[str, ...] = ()
    observation_mean: Float32 | None = None
    observation_std: Float32 | None = None
    maze: MazeTask | None = None
    trusted: bool = False
    action_low: Float32 | None = None
    action_high: Float32 | None = None
    requirements: tuple[str, ...] = ()
    discrete_start: int | None = None
    model_xml: str | None = None

    def unnormalized(self, observations: Float32) -> Float32:
        """Returns observations, or their first k numbers, [..., k], in the environment's units."""
        if self.observation_mean is None or self.observation_std is None:
            return observations
        k = observations.shape[-1]
        return observations * self.observation_std[:k] + self.observation_mean[:k]

    def describe(self) -> str:
        """Returns the environment's id, time limit and arguments, but for a maze's map."""
        spec = parse_spec(self.spec)
        kwargs = {**spec.kwargs, **self.kwargs}
        words = [f"{key}={value}" for key, value in kwargs.items() if key != "maze_map"]
        return ", ".join([spec.id, f"{spec.max_episode_steps} steps at most", *words])
