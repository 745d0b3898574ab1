"""The PointMaze tasks: their environments, and a controller that crosses their mazes."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec

from iql_jax.envs.maze_environments import bare_environment, registered_spec
from iql_jax.envs.mazes import MazeMap
from iql_jax.generation.planner import MazePlanner

SCALING = 1.0
POSITION_GAIN = 10.0
VELOCITY_GAIN = 1.0


@dataclasses.dataclass(frozen=True)
class PointMaze:
    """One of the PointMaze tasks.

    Attributes:
        env_id: the Gymnasium id of the collecting environment.
        goal_cell: row and column of the evaluation environment's only goal, as in Minari.
    """

    env_id: str
    goal_cell: tuple[int, int]


TASKS = {
    "umaze": PointMaze("PointMaze_UMaze-v3", (1, 1)),
    "medium": PointMaze("PointMaze_Medium-v3", (6, 6)),
    "large": PointMaze("PointMaze_Large-v3", (7, 9)),
}


class PointController:
    """Drives the ball along the waypoints: a PD controller with the gains of D4RL's.

    Args:
        planner: the planner of the maze.
    """

    def __init__(self, planner: MazePlanner) -> None:
        self._planner = planner
        _, self._right, _, self._top = planner.maze.extent
        self._waypoints: list[list[list[float]]] = []

    def head_for(self, goal: npt.NDArray[np.float64]) -> None:
        """Choose the goal, [2] in metres, that the following actions lead to."""
        self._waypoints = self._planner.waypoint_table(goal).tolist()

    def action(self, state: list[float]) -> tuple[float, float]:
        """Compute the action, inside [-1, 1], for a state (x, y and their velocities).

        Plain floats on purpose: this runs at every step, where NumPy would take most of the time.
        """
        x, y, x_velocity, y_velocity = state
        row = math.floor((self._top - y) / SCALING)
        column = math.floor((x + self._right) / SCALING)
        target_x, target_y = self._waypoints[row][column]
        return (
            clip(POSITION_GAIN * (target_x - x) - VELOCITY_GAIN * x_velocity),
            clip(POSITION_GAIN * (target_y - y) - VELOCITY_GAIN * y_velocity),
        )


def collecting_spec(task: str) -> EnvSpec:
    """Describe the environment that data are collected in: it draws a new goal at each arrival."""
    spec = registered_spec(TASKS[task].env_id)
    spec.kwargs |= {"continuing_task": True, "reset_target": True}
    spec.max_episode_steps = 1_000_000
    return spec


def evaluation_spec(task: str) -> EnvSpec:
    """Describe the evaluation environment: one goal, which stays, as in Minari's metadata."""
    spec = registered_spec(TASKS[task].env_id)
    row, column = TASKS[task].goal_cell
    maze_map = [list(cells) for cells in spec.kwargs["maze_map"]]
    maze_map[row][column] = "g"
    spec.kwargs |= {"maze_map": maze_map, "continuing_task": True, "reset_target": False}
    return spec


@functools.lru_cache(maxsize=4)
def build_environment(task: str, evaluation: bool = False) -> Any:
    """Build an environment without wrappers."""
    return bare_environment(evaluation_spec(task) if evaluation else collecting_spec(task))


@functools.lru_cache(maxsize=4)
def build_planner(task: str) -> MazePlanner:
    """Make the planner of a task's maze."""
    spec = registered_spec(TASKS[task].env_id)
    return MazePlanner(MazeMap.from_lists(spec.kwargs["maze_map"], SCALING))


def clip(value: float) -> float:
    """Bring a component of an action into [-1, 1]."""
    return min(1.0, max(-1.0, value))
