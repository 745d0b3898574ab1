"""Builds an environment in the layout of its dataset's transitions."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from iql_jax.envs.description import EnvironmentDescription, MazeTask
from iql_jax.envs.mazes import at_goal
from iql_jax.envs.specs import make_from_spec
from iql_jax.utils.arrays import Float32
from iql_jax.utils.errors import NoEnvironment, UserError


def make_environment(
    description: EnvironmentDescription, render_mode: str | None = None
) -> gym.Env[Float32, Float32]:
    """Builds the described environment.

    Its observations are float32 [observation_dim], laid out and normalized as the dataset's; its
    actions lie in [-1, 1], or are one-hot where they are discrete. Of an ``info`` only
    ``info['success']`` is passed on, where the environment reports it. A maze ends its episode at
    success.

    Args:
        description: The environment.
        render_mode: As in ``gymnasium.make``.

    Raises:
        UserError: If the environment is not from a known namespace, does not build, has no time
            limit, or has other observations or actions than the dataset.
    """
    with _model_file(description.model_xml) as more:
        env = make_from_spec(
            description.spec,
            {**description.kwargs, **more},
            trusted=description.trusted,
            render_mode=render_mode,
            requirements=description.requirements,
        )
    try:
        check_time_limit(env)
        if description.maze is not None:
            env = MazeEpisode(env, description.maze)
        return DatasetLayout(env, description)
    except Exception:
        env.close()
        raise


@contextlib.contextmanager
def _model_file(text: str | None) -> Iterator[dict[str, str]]:
    """Lends a constructor the file of a MuJoCo model, which it reads at once, as its argument."""
    if text is None:
        yield {}
        return
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.xml"
        path.write_text(text)
        yield {"xml_file": str(path)}


def check_time_limit(env: gym.Env) -> None:
    """Refuses an environment whose episodes need not end.

    Raises:
        NoEnvironment: If it has no time limit.
    """
    layer = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, gym.wrappers.TimeLimit):
            return
        layer = layer.env
    raise NoEnvironment(
        f"environment {_name(env)} has no time limit (max_episode_steps), so that an episode "
        "might never end"
    )


class MazeEpisode(gym.Wrapper):
    """A maze with a fixed goal, if the task has one, whose episodes end at success.

    gymnasium_robotics draws the goal within a quarter of a cell of the goal cell's center; a fixed
    goal replaces it after each reset.
    """

    def __init__(self, env: gym.Env, task: MazeTask) -> None:
        super().__init__(env)
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
        return observation, {**info, "success": _at_goal(observation)}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Steps; success is a termination."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        success = _at_goal(observation)
        info = {**info, "success": success}
        return observation, float(reward), bool(terminated) or success, bool(truncated), info


class DatasetLayout(gym.Wrapper):
    """Observations and actions as the dataset's transitions have them.

    Raises:
        UserError: If the environment has other observations or actions than the dataset.
    """

    def __init__(self, env: gym.Env, description: EnvironmentDescription) -> None:
        super().__init__(env)
        self._paths = [key.split("/") for key in description.observation_keys] or [[]]
        self._mean, self._std = description.observation_mean, description.observation_std
        self._low, self._high = description.action_low, description.action_high
        self._start = description.discrete_start
        observation_dim = sum(_entry_size(env, path) for path in self._paths)
        if description.observation_dim not in (None, observation_dim):
            raise UserError(
                f"the dataset's observations have {description.observation_dim} numbers, but those "
                f"of its environment {_name(env)} have {observation_dim} "
                f"(entries: {', '.join(description.observation_keys) or 'all'})"
            )
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (observation_dim,), np.float32)
        if isinstance(env.action_space, gym.spaces.Discrete) or self._start is not None:
            self.action_space = _one_hot_space(env, description)
        else:
            self.action_space = _vector_space(env, description)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32, dict[str, Any]]:
        """Resets; the observation is float32 [observation_dim]."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._layout(observation), _success(info)

    def step(self, action: Float32) -> tuple[Float32, float, bool, bool, dict[str, Any]]:
        """Steps with an action in [-1, 1], or one-hot; the environment gets its own kind."""
        own: Any = np.asarray(action, dtype=np.float32)
        if self._start is not None:
            own = self._start + np.argmax(own)
        elif self._low is not None and self._high is not None:
            own = self._low + (own + 1) / 2 * (self._high - self._low)
        observation, reward, terminated, truncated, info = self.env.step(own)
        following = self._layout(observation)
        return following, float(reward), bool(terminated), bool(truncated), _success(info)

    def _layout(self, observation: Any) -> Float32:
        parts = [np.ravel(_entry(observation, path)) for path in self._paths]
        flat = np.concatenate(parts).astype(np.float32)
        if flat.shape != self.observation_space.shape:
            raise UserError(f"an observation of {_name(self.env)} has {len(flat)} numbers")
        if self._mean is not None and self._std is not None:
            flat = (flat - self._mean) / self._std
        return flat


def _success(info: dict[str, Any]) -> dict[str, Any]:
    """Returns the success that an environment reports under one of its two usual names."""
    for key in ("success", "is_success"):
        if key in info:
            return {"success": bool(info[key])}
    return {}


def _at_goal(observation: dict[str, Any]) -> bool:
    return bool(at_goal(observation["achieved_goal"], observation["desired_goal"]))


def _entry(observation: Any, path: list[str]) -> Any:
    for part in path:
        observation = observation[part]
    return observation


def _entry_size(env: gym.Env, path: list[str]) -> int:
    """Returns how many numbers an entry has, such as achieved_goal/kettle; [] is all of them."""
    found: gym.Space | None = env.observation_space
    for part in path:
        found = found.spaces.get(part) if isinstance(found, gym.spaces.Dict) else None
    if not isinstance(found, gym.spaces.Box):
        where = f"entry {'/'.join(path)!r}" if path else "one array"
        raise UserError(
            f"the dataset's observations have {where}, but those of its environment {_name(env)} "
            f"are {env.observation_space}"
        )
    return int(np.prod(found.shape))


def _one_hot_space(env: gym.Env, description: EnvironmentDescription) -> gym.spaces.Box:
    """Returns the space of one-hot actions, if the environment's choices are the dataset's."""
    expected: gym.spaces.Discrete | None = None
    if description.discrete_start is not None and description.action_dim is not None:
        expected = gym.spaces.Discrete(description.action_dim, start=description.discrete_start)
    if expected is None or env.action_space != expected:
        raise UserError(
            f"the dataset's actions are {expected or 'continuous'}, but those of its environment "
            f"{_name(env)} are {env.action_space}"
        )
    return gym.spaces.Box(0.0, 1.0, (int(expected.n),), np.float32)


def _vector_space(env: gym.Env, description: EnvironmentDescription) -> gym.spaces.Box:
    """Returns the space of actions in [-1, 1], if the environment's bounds are the dataset's."""
    name, space = _name(env), env.action_space
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
        raise UserError(f"environment {name} has actions {space}; only vectors are supported")
    if description.action_dim not in (None, space.shape[0]):
        raise UserError(
            f"the dataset's actions have {description.action_dim} numbers, but those of its "
            f"environment {name} have {space.shape[0]}"
        )
    low = -1.0 if description.action_low is None else description.action_low
    high = 1.0 if description.action_high is None else description.action_high
    if not (np.allclose(space.low, low) and np.allclose(space.high, high)):
        raise UserError(
            f"the dataset's actions lie in [{low}, {high}], but those of its environment {name} in "
            f"[{space.low}, {space.high}]"
        )
    return gym.spaces.Box(-1.0, 1.0, space.shape, np.float32)


def _name(env: gym.Env) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
