"""The dataset's environment, in the very layout of its transitions.

``make_environment`` builds one from an ``EnvironmentRecipe``, which travels to worker processes:
so nothing here imports JAX. What a dataset's metadata may make it import is decided in
``environment_specs``.
"""

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from iql_jax.envs.mazes import MazeMap, at_goal
from iql_jax.envs.specs import make_from_spec
from iql_jax.utils.errors import NoEnvironment, UserError


@dataclasses.dataclass(frozen=True)
class MazeTask:
    """What a maze environment is evaluated on.

    Attributes:
        map: the maze.
        goal: the fixed evaluation goal, x and y in metres; None where the environment draws the
            goal of each episode.
    """

    map: MazeMap
    goal: tuple[float, float] | None


@dataclasses.dataclass(frozen=True, eq=False)
class EnvironmentRecipe:
    """Everything a worker process needs to build the evaluation environment.

    Picklable, without live objects.

    Attributes:
        spec: gymnasium's ``EnvSpec`` as JSON, as the dataset's metadata hold it.
        kwargs: arguments of the environment's constructor that replace those in ``spec``.
        observation_keys: the entries of a Dict observation to concatenate, in order ('a/b' for an
            entry of a nested Dict); empty for a Box.
        observation_mean: [observation_dim] float32, subtracted from observations, or None.
        observation_std: [observation_dim] float32, by which they are then divided, or None.
        maze: the maze task, or None for other environments.
        trusted: whether environments from unknown namespaces may be imported.
        observation_dim: numbers in an observation of the dataset; None leaves it unchecked.
        action_dim: numbers in an action of the dataset; None leaves it unchecked.
        action_low: [action_dim] float32, the environment action that the policy's -1 stands for;
            None where the dataset's actions lie in [-1, 1] already.
        action_high: [action_dim] float32, likewise for 1.
        requirements: the packages that the dataset's metadata ask for, pip-style.
        discrete_start: the first of the environment's actions where they are integers, of which the
            dataset's are one-hot vectors; None where they are continuous.
    """

    spec: str
    kwargs: dict[str, Any]
    observation_keys: tuple[str, ...]
    observation_mean: npt.NDArray[np.float32] | None
    observation_std: npt.NDArray[np.float32] | None
    maze: MazeTask | None
    trusted: bool = False
    observation_dim: int | None = None
    action_dim: int | None = None
    action_low: npt.NDArray[np.float32] | None = None
    action_high: npt.NDArray[np.float32] | None = None
    requirements: tuple[str, ...] = ()
    discrete_start: int | None = None

    def unnormalized(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Observations, or their first k numbers, [..., k], in the environment's own units."""
        if self.observation_mean is None or self.observation_std is None:
            return observations
        k = observations.shape[-1]
        return observations * self.observation_std[:k] + self.observation_mean[:k]


def make_environment(recipe: EnvironmentRecipe, render_mode: str | None = None) -> gym.Env:
    """Build the dataset's environment.

    Its observations are float32 [observation_dim] in the very layout (and normalisation) of the
    dataset's; its actions lie in [-1, 1], or are one-hot where they are discrete. A maze ends its
    episode at success and reports it as ``info['success']``.

    Args:
        recipe: what to build.
        render_mode: as in ``gymnasium.make``.

    Raises:
        UserError: if the environment is not from a known namespace, does not build, has no time
            limit, or has other observations or actions than the dataset.
    """
    env = make_from_spec(
        recipe.spec,
        recipe.kwargs,
        trusted=recipe.trusted,
        render_mode=render_mode,
        requirements=recipe.requirements,
    )
    try:
        check_time_limit(env)
        if recipe.maze is not None:
            env = MazeEpisode(env, recipe.maze)
        check_spaces(recipe, env)
        return DatasetLayout(env, recipe)
    except Exception:
        env.close()
        raise


def check_spaces(recipe: EnvironmentRecipe, env: gym.Env) -> None:
    """Refuse an environment whose observations or actions are not the dataset's.

    Args:
        recipe: the dataset's side: observation entries, dimensions and action bounds.
        env: the environment, before ``DatasetLayout``.

    Raises:
        UserError: naming both sides.
    """
    name = _name(env)
    found = sum(
        int(np.prod(_entry(env.observation_space, key, name).shape))
        for key in recipe.observation_keys or ("",)
    )
    if recipe.observation_dim not in (None, found):
        raise UserError(
            f"the dataset's observations have {recipe.observation_dim} numbers, but those of its "
            f"environment {name} have {found} "
            f"(entries: {', '.join(recipe.observation_keys) or 'all'})"
        )
    space = env.action_space
    if recipe.discrete_start is not None or isinstance(space, gym.spaces.Discrete):
        _check_discrete(recipe, space, name)
        return
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
        raise UserError(f"environment {name} has actions {space}; only vectors are supported")
    if recipe.action_dim not in (None, space.shape[0]):
        raise UserError(
            f"the dataset's actions have {recipe.action_dim} numbers, but those of its environment "
            f"{name} have {space.shape[0]}"
        )
    low = -1.0 if recipe.action_low is None else recipe.action_low
    high = 1.0 if recipe.action_high is None else recipe.action_high
    if not (np.allclose(space.low, low) and np.allclose(space.high, high)):
        raise UserError(
            f"the dataset's actions lie in [{low}, {high}], but those of its environment {name} in "
            f"[{space.low}, {space.high}]"
        )


def _check_discrete(recipe: EnvironmentRecipe, space: gym.Space, name: str) -> None:
    """Refuse a space other than the dataset's where one of them is discrete."""
    expected = None
    if recipe.discrete_start is not None and recipe.action_dim is not None:
        expected = gym.spaces.Discrete(recipe.action_dim, start=recipe.discrete_start)
    if space != expected:
        raise UserError(
            f"the dataset's actions are {expected or 'continuous'}, but those of its environment "
            f"{name} are {space}"
        )


class MazeEpisode(gym.Wrapper):
    """A maze's evaluation episode: a fixed goal if the task has one, and an end at success.

    gymnasium_robotics draws the goal within a quarter of a cell of the goal cell's centre; a fixed
    goal replaces it after each reset.
    """

    def __init__(self, env: gym.Env, task: MazeTask) -> None:
        super().__init__(env)
        self._goal = None if task.goal is None else np.array(task.goal, dtype=np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reset, and put the fixed goal in place."""
        observation, info = self.env.reset(seed=seed, options=options)
        if self._goal is not None:
            maze: Any = self.env.unwrapped
            maze.goal = self._goal.copy()
            maze.update_target_site_pos()
            observation = {**observation, "desired_goal": self._goal.copy()}
        return observation, {**info, "success": _at_goal(observation)}

    def step(
        self, action: npt.NDArray[Any]
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Step; success is a termination."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        success = _at_goal(observation)
        info = {**info, "success": success}
        return observation, float(reward), bool(terminated) or success, bool(truncated), info


class DatasetLayout(gym.Wrapper):
    """Observations and actions as the dataset's transitions have them."""

    def __init__(self, env: gym.Env, recipe: EnvironmentRecipe) -> None:
        super().__init__(env)
        self._keys = recipe.observation_keys
        self._mean, self._std = recipe.observation_mean, recipe.observation_std
        self._low, self._high = recipe.action_low, recipe.action_high
        name = _name(env)
        spaces = [_entry(env.observation_space, key, name) for key in self._keys or ("",)]
        dim = sum(int(np.prod(space.shape)) for space in spaces)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (dim,), np.float32)
        self._start = recipe.discrete_start
        if isinstance(env.action_space, gym.spaces.Discrete):
            shape: tuple[int, ...] = (int(env.action_space.n),)
            self.action_space = gym.spaces.Box(0.0, 1.0, shape, np.float32)
        else:
            self.action_space = gym.spaces.Box(-1.0, 1.0, env.action_space.shape, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Reset; the observation is float32 [observation_dim]."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._layout(observation), info

    def step(
        self, action: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Step with an action in [-1, 1], or one-hot; the observation is float32 [observation_dim].

        The environment gets its own kind: in its range, or an integer.
        """
        action = np.asarray(action, dtype=np.float32)
        if self._start is not None:
            action = self._start + np.argmax(action, keepdims=True)[0]
        if self._low is not None and self._high is not None:
            action = self._low + (action + 1) / 2 * (self._high - self._low)
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._layout(observation), float(reward), bool(terminated), bool(truncated), info

    def _layout(self, observation: Any) -> npt.NDArray[np.float32]:
        parts = [np.ravel(_lookup(observation, key)) for key in self._keys or ("",)]
        flat = np.concatenate(parts).astype(np.float32)
        if self._mean is not None and self._std is not None:
            flat = (flat - self._mean) / self._std
        return flat


def _at_goal(observation: dict[str, Any]) -> bool:
    return bool(at_goal(observation["achieved_goal"], observation["desired_goal"]))


def _lookup(observation: Any, key: str) -> Any:
    for part in key.split("/") if key else ():
        observation = observation[part]
    return observation


def _entry(space: gym.Space, key: str, name: str) -> gym.spaces.Box:
    """The Box at a key such as 'observation' or 'achieved_goal/kettle'; '' is the space itself."""
    found: gym.Space | None = space
    for part in key.split("/") if key else ():
        found = found.spaces.get(part) if isinstance(found, gym.spaces.Dict) else None
    if not isinstance(found, gym.spaces.Box):
        where = f"entry {key!r}" if key else "one array"
        raise UserError(
            f"the dataset's observations have {where}, but those of its environment {name} are "
            f"{space}"
        )
    return found


def _name(env: gym.Env) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def check_time_limit(env: gym.Env) -> None:
    """Refuse an environment whose episodes need not end.

    Raises:
        NoEnvironment: if it has no time limit.
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
