"""What imported data become: the layout of their observations, and where they are evaluated."""

import dataclasses
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec

from iql_jax.data.imports.mazes import MazeFrame
from iql_jax.envs.maze_environments import registered_spec

Layout = Literal["flat", "point", "ant"]


@dataclasses.dataclass(frozen=True)
class Target:
    """The dataset that is written.

    Attributes:
        spec: the environment, for collection and evaluation alike; None where there is none that
            fits.
        layout: 'flat' stores observations as they are; 'point' and 'ant' as gymnasium_robotics'
            mazes have them, with their position in its frame.
        maze: the maze, for 'point' and 'ant'.
        desired_goal: the goal stored with each observation of a maze.
        references: the returns that score 0 and 100, where they are known.
        requirements: what to install for the environment, pip-style.
    """

    spec: EnvSpec | None = None
    layout: Layout = "flat"
    maze: MazeFrame | None = None
    desired_goal: tuple[float, float] | None = None
    references: tuple[float, float] | None = None
    requirements: tuple[str, ...] = ()

    def observations(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any] | dict[str, Any]:
        """Lay out the observations [n, d] of an episode.

        Positions are shifted in float64, so that the sum is rounded once, to float32, on loading.
        """
        if self.maze is None:
            return rows
        rows = rows.astype(np.float64)
        rows[:, :2] += self.maze.shift
        return {
            "observation": rows if self.layout == "point" else rows[:, 2:],
            "achieved_goal": rows[:, :2],
            "desired_goal": np.tile(np.array(self.desired_goal, np.float64), (len(rows), 1)),
        }

    def observation_space(self, dim: int, dtype: npt.DTypeLike) -> gym.Space[Any]:
        """The space of ``observations`` for rows of ``dim`` numbers."""
        if self.maze is None:
            return _box(dim, dtype)
        inner = dim if self.layout == "point" else dim - 2
        entries = {"observation": inner, "achieved_goal": 2, "desired_goal": 2}
        return gym.spaces.Dict({key: _box(size, np.float64) for key, size in entries.items()})


def first_registered(env_ids: tuple[str, ...]) -> EnvSpec | None:
    """The specification of the first environment that the installed packages have.

    ``gymnasium_robotics`` is asked as well; None where none of the ids is registered.
    """
    for env_id in env_ids:
        try:
            return registered_spec(env_id)
        except gym.error.Error:
            continue
    return None


def maze_spec(env_id: str, maze: MazeFrame, max_episode_steps: int, **kwargs: Any) -> EnvSpec:
    """An evaluation environment of gymnasium_robotics with a maze of another package.

    It is the episodic task: the goal stays, and reaching it ends the episode.
    """
    spec = registered_spec(env_id)
    settings = {"continuing_task": False, "reset_target": False, **spec.kwargs, **kwargs}
    settings |= {"maze_map": [list(row) for row in maze.map.cells]}
    return dataclasses.replace(spec, max_episode_steps=max_episode_steps, kwargs=settings)


def _box(dim: int, dtype: npt.DTypeLike) -> gym.spaces.Box:
    kind: Any = np.dtype(dtype).type
    return gym.spaces.Box(-np.inf, np.inf, (dim,), kind)
