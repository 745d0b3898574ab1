"""Builds an environment in the layout of its dataset's transitions."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from iql_jax.envs.description import EnvironmentDescription, MazeTask, entry
from iql_jax.envs.mazes import at_goal
from iql_jax.envs.specs import build, check_classes, check_spec, parse_spec, register_robotics
from iql_jax.utils.arrays import Float32
from iql_jax.utils.errors import NoEnvironment, UserError, one_line

_SELECTING = ("FilterObservation", "FlattenObservation")


def make_environment(
    description: EnvironmentDescription, render_mode: str | None = None
) -> gym.Env[Float32, Float32]:
    """Builds the described environment; ``render_mode`` as in ``gymnasium.make``.

    Its observations are float32 [observation_dim], laid out and normalized as the dataset's; its
    actions lie in [-1, 1], or are one-hot where they are discrete. Of an ``info`` only
    ``info['success']`` is passed on, where the environment reports it. A maze ends its episode at
    success.

    Raises:
        UserError: If the environment is not trusted, does not build, has no time limit, or has
            other observations or actions than the dataset.
    """
    spec = parse_spec(description.spec)
    check_spec(spec, description.trusted)
    if spec.max_episode_steps is None:
        raise NoEnvironment(f"environment {spec.id} has no time limit (max_episode_steps)")
    if description.maze is not None:  # Whatever the data have left of an observation's entries.
        wrappers = [w for w in spec.additional_wrappers if not w.entry_point.endswith(_SELECTING)]
        spec = dataclasses.replace(spec, additional_wrappers=tuple(wrappers))
    env = _build(spec, description, render_mode)
    if description.maze is not None:
        env = MazeEpisode(env, description.maze)
    return DatasetLayout(env, description)


def _build(spec: EnvSpec, description: EnvironmentDescription, render_mode: str | None) -> gym.Env:
    """Builds an environment as it is, without the wrappers of ``make_environment``."""
    entry_point, kwargs = str(spec.entry_point), dict(description.kwargs)
    if render_mode is not None:  # Not every constructor knows it.
        kwargs["render_mode"] = render_mode
    try:
        if entry_point.startswith(("gymnasium_robotics.", "iql_jax.")):
            register_robotics()
        if not description.trusted:
            check_classes(spec)
        with tempfile.TemporaryDirectory() as folder:
            if description.model_xml is not None:
                model = Path(folder, "model.xml")  # The constructor reads it at once.
                model.write_text(description.model_xml)
                kwargs["xml_file"] = str(model)
            return build(spec, **kwargs)
    except UserError:
        raise
    except Exception as error:
        message = f"environment {spec.id!r} ({entry_point}) does not build: {one_line(error)}"
        if description.requirements:
            message += f"; the dataset asks for: {', '.join(description.requirements)}"
        if "kitchen" in entry_point:
            message += "; FrankaKitchen needs an older mujoco: pip install 'iql_jax[kitchen]'"
        raise NoEnvironment(message) from error


class MazeEpisode(gym.Wrapper):
    """A maze whose episodes end at success; a fixed goal, if any, replaces the one drawn."""

    def __init__(self, env: gym.Env, task: MazeTask) -> None:
        super().__init__(env)
        self._radius = task.radius
        self._goal = None if task.goal is None else np.array(task.goal, dtype=np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Resets, and puts the fixed goal in place."""
        observation, info = self.env.reset(seed=seed, options=options)
        if self._goal is not None:
            maze: Any = self.env.unwrapped
            maze.goal = self._goal.copy()
            maze.update_target_site_pos()
            observation = {**observation, "desired_goal": self._goal.copy()}
        return observation, {**info, "success": self._succeeds(observation)}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Steps; success is a termination."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        success = self._succeeds(observation)
        info = {**info, "success": success}
        maze: Any = self.env.unwrapped
        if maze.reward_type == "sparse":
            reward = success
        return observation, float(reward), bool(terminated) or success, bool(truncated), info

    def _succeeds(self, observation: dict[str, Any]) -> bool:
        position, goal = observation["achieved_goal"], observation["desired_goal"]
        return bool(at_goal(position, goal, self._radius))


class DatasetLayout(gym.Wrapper):
    """Observations and actions as the dataset's transitions have them."""

    def __init__(self, env: gym.Env, description: EnvironmentDescription) -> None:
        super().__init__(env)
        self._description = description
        self.observation_space = _observation_space(env, description)
        self.action_space = _action_space(env, description)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32, dict[str, Any]]:
        """Resets, without options; the observation is float32 [observation_dim]."""
        observation, info = self.env.reset(seed=seed)
        return self._description.policy_observations(observation), _success(info)

    def step(self, action: Float32) -> tuple[Float32, float, bool, bool, dict[str, Any]]:
        """Steps with an action in [-1, 1], or one-hot; the environment gets its own kind."""
        own = self._description.environment_actions(np.asarray(action, dtype=np.float32))
        observation, reward, terminated, truncated, info = self.env.step(own)
        following = self._description.policy_observations(observation)
        return following, float(reward), bool(terminated), bool(truncated), _success(info)


def _success(info: dict[str, Any]) -> dict[str, Any]:
    """Returns the success that an environment reports under one of its two usual names."""
    reported = [bool(info[key]) for key in ("success", "is_success") if key in info]
    return {"success": reported[0]} if reported else {}


def _observation_space(env: gym.Env, description: EnvironmentDescription) -> gym.spaces.Box:
    """Returns the space of the dataset's observations, if the environment has their entries."""
    keys, dim = description.observation_keys or ("",), description.observation_dim
    try:
        fits = dim == sum(np.prod(entry(env.observation_space, key).shape) for key in keys)
    except (KeyError, TypeError):
        fits = False
    if not fits:
        entries = f" ({', '.join(keys)})" if any(keys) else ""
        raise UserError(
            f"the dataset's observations have {dim} numbers{entries}, but those of its environment "
            f"{_name(env)} are {env.observation_space}"
        )
    return gym.spaces.Box(-np.inf, np.inf, (dim,), np.float32)


def _action_space(env: gym.Env, description: EnvironmentDescription) -> gym.spaces.Box:
    """Returns the space of the dataset's actions, if the environment's are of their kind."""
    own, dim = env.action_space, description.action_dim
    expected: gym.Space
    if description.discrete_start is not None:
        expected = gym.spaces.Discrete(dim, start=description.discrete_start)
        space, fits = gym.spaces.Box(0.0, 1.0, (dim,), np.float32), own == expected
    else:
        space = gym.spaces.Box(-1.0, 1.0, (dim,), np.float32)
        low = space.low if description.action_low is None else description.action_low
        high = space.high if description.action_high is None else description.action_high
        expected = gym.spaces.Box(low, high, (dim,), np.float32)
        fits = (
            isinstance(own, gym.spaces.Box)
            and own.shape == (dim,)
            and np.allclose([own.low, own.high], [low, high])
        )
    if not fits:
        raise UserError(
            f"the dataset's actions are {expected}, but those of its environment {_name(env)} are "
            f"{own}"
        )
    return space


def _name(env: gym.Env) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
