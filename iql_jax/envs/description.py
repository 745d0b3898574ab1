"""Descriptions of environments, which travel to worker processes."""

import dataclasses
import functools
import json
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from iql_jax.envs.mazes import GOAL_RADIUS, MazeMap
from iql_jax.envs.specs import parse_spec
from iql_jax.utils.arrays import Float32
from iql_jax.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class MazeTask:
    """A maze and the fixed goal of its evaluation, in meters; None: each episode's is drawn."""

    map: MazeMap
    goal: tuple[float, float] | None
    radius: float = GOAL_RADIUS  # Meters from it within which an episode succeeds.


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Layout:
    """Observations and actions as the policy has them, and as the environment has them."""

    observation_dim: int
    action_dim: int
    # The entries of a Dict observation to concatenate ('a/b' in a nested Dict); empty for a Box.
    observation_keys: tuple[str, ...] = ()
    observation_mean: Float32 | None = None  # [observation_dim], subtracted from observations.
    observation_std: Float32 | None = None  # [observation_dim], by which they are then divided.
    # [action_dim], the environment's actions that -1 and 1 stand for; None if these are its own.
    action_low: Float32 | None = None
    action_high: Float32 | None = None
    # The first of the environment's actions where they are integers; the policy's are one-hot.
    discrete_start: int | None = None

    def policy_observations(self, observations: Any) -> Float32:
        """Lays out an environment's observation, or a batch: [observation_dim] or [B, ...].

        Raises:
            UserError: If it has another number of numbers.
        """
        parts = [np.asarray(entry(observations, key)) for key in self.observation_keys or ("",)]
        batch = parts[0].shape[:1] if parts[0].ndim > 1 else ()
        flat = np.concatenate([part.reshape(*batch, -1) for part in parts], axis=-1)
        if flat.shape[-1] != self.observation_dim:
            raise UserError(
                f"an observation has {flat.shape[-1]} numbers, and the policy takes "
                f"{self.observation_dim}"
            )
        return self.normalized(flat.astype(np.float32))

    def normalized(self, observations: Any) -> Any:
        """Normalizes observations [..., observation_dim], of NumPy or JAX, as the data were."""
        if self.observation_mean is None or self.observation_std is None:
            return observations
        return (observations - self.observation_mean) / self.observation_std

    def environment_actions(self, actions: Any) -> Any:
        """Turns the policy's actions [..., action_dim], of NumPy or JAX, into the environment's."""
        if self.discrete_start is not None:
            return self.discrete_start + actions.argmax(axis=-1)
        if self.action_low is None or self.action_high is None:
            return actions
        return self.action_low + (actions + 1) / 2 * (self.action_high - self.action_low)

    def unnormalized(self, observations: Float32) -> Float32:
        """Returns observations, or their first k numbers, [..., k], in the environment's units."""
        if self.observation_mean is None or self.observation_std is None:
            return observations
        k = observations.shape[-1]
        return observations * self.observation_std[:k] + self.observation_mean[:k]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class EnvironmentDescription(Layout):
    """Everything that a process needs to build an environment; picklable, without live objects."""

    spec: str  # Gymnasium's ``EnvSpec`` as JSON, as the dataset's metadata hold it.
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)  # Replace those in ``spec``.
    maze: MazeTask | None = None
    trusted: bool = False  # Environments from unknown namespaces may be imported.
    requirements: tuple[str, ...] = ()  # Packages that the dataset asks for, pip-style.
    model_xml: str | None = None  # A MuJoCo model that the constructor gets as ``xml_file``.

    def describe(self) -> str:
        """Returns the environment's id, time limit and arguments, but for a maze's map."""
        spec = parse_spec(self.spec)
        kwargs = {**spec.kwargs, **self.kwargs}
        words = [f"{key}={value}" for key, value in kwargs.items() if key != "maze_map"]
        return ", ".join([spec.id, f"{spec.max_episode_steps} steps at most", *words])


_ARRAYS = ("observation_mean", "observation_std", "action_low", "action_high")


def to_json(layout: Layout) -> dict[str, Any]:
    """Returns JSON types, of which ``from_json`` makes the same layout or description."""
    fields = {field.name: getattr(layout, field.name) for field in dataclasses.fields(layout)}
    fields.pop("trusted", None)
    for key in _ARRAYS:
        fields[key] = None if fields[key] is None else fields[key].tolist()
    if (maze := fields.get("maze")) is not None:
        fields["maze"] = {
            "cells": maze.map.cells,
            "scaling": maze.map.scaling,
            "goal": maze.goal,
            "radius": maze.radius,
        }
    return dict(json.loads(json.dumps(fields)))


def from_json(content: Mapping[str, Any], *, trusted: bool = False) -> Layout:
    """Returns the layout, or the description if it holds one, that ``to_json`` turned into this.

    Only the program that runs now can trust an environment: a file may be a stranger's.
    """
    fields = dict(content)
    for key in _ARRAYS:
        fields[key] = None if fields[key] is None else np.array(fields[key], np.float32)
    fields["observation_keys"] = tuple(fields["observation_keys"])
    dims = fields["observation_dim"], fields["action_dim"]
    if {type(dim) for dim in dims} != {int} or not isinstance(fields.get("kwargs", {}), dict):
        raise TypeError("its dimensions or arguments are of another type")
    if "spec" not in fields:
        return Layout(**fields)
    if (maze := fields["maze"]) is not None:
        goal = None if maze["goal"] is None else (maze["goal"][0], maze["goal"][1])
        cells = MazeMap.from_lists(maze["cells"], maze["scaling"])
        fields["maze"] = MazeTask(cells, goal, float(maze.get("radius", GOAL_RADIUS)))
    fields["requirements"] = tuple(fields["requirements"])
    return EnvironmentDescription(**fields, trusted=trusted)


def entry(observation: Any, key: str) -> Any:
    """Returns an entry of an observation or its space, such as achieved_goal/kettle; '' is all."""
    return functools.reduce(operator.getitem, key.split("/") if key else [], observation)
