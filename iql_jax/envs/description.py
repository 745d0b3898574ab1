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
    """Everything that a process needs to build an environment; picklable, without live objects."""

    spec: str  # Gymnasium's ``EnvSpec`` as JSON, as the dataset's metadata hold it.
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)  # Replace those in ``spec``.
    observation_dim: int
    action_dim: int
    # The entries of a Dict observation to concatenate ('a/b' in a nested Dict); empty for a Box.
    observation_keys: tuple[str, ...] = ()
    observation_mean: Float32 | None = None  # [observation_dim], subtracted from observations.
    observation_std: Float32 | None = None  # [observation_dim], by which they are then divided.
    maze: MazeTask | None = None
    trusted: bool = False  # Environments from unknown namespaces may be imported.
    # [action_dim], the environment's actions that -1 and 1 stand for; None if these are its own.
    action_low: Float32 | None = None
    action_high: Float32 | None = None
    requirements: tuple[str, ...] = ()  # Packages that the dataset asks for, pip-style.
    # The first of the environment's actions where they are integers; the dataset's are one-hot.
    discrete_start: int | None = None
    model_xml: str | None = None  # A MuJoCo model that the constructor gets as ``xml_file``.

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
