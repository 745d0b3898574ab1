"""PointMaze datasets like Minari's ``D4RL/pointmaze/*-v2``.

The procedure is theirs: a ball is driven to one random goal after another in a task that never
ends, by a PD controller that follows waypoints, under Gaussian action noise; an episode ends, by
truncation, at the step that reaches the goal. Here an episode holds one goal, from its first
observation to its last (Minari's first observations have the goal of the episode before), and the
waypoints come from a planner without memory.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
from minari.data_collector import EpisodeBuffer

from iql_jax.generation.maze_tasks import MazeTask, build_environment
from iql_jax.generation.planner import MazePlanner
from iql_jax.generation.procedure import Procedure, Shard, maze_episode, randomness
from iql_jax.utils.arrays import Float64

SCALING = 1.0
POSITION_GAIN = 10.0  # The gains are those of D4RL's controller.
VELOCITY_GAIN = 1.0
ACTION_NOISE = 0.5

_MAX_SHARDS = 100
_MIN_SHARD_STEPS = 500

TASKS = {
    "umaze": MazeTask("PointMaze_UMaze-v3", SCALING, (1, 1), (9.28, 228.26), draws_goals=True),
    "medium": MazeTask("PointMaze_Medium-v3", SCALING, (6, 6), (14.27, 476.12), draws_goals=True),
    "large": MazeTask("PointMaze_Large-v3", SCALING, (7, 9), (3.07, 627.75), draws_goals=True),
}


def procedure(task: str, steps: int, seed: int) -> Procedure:
    """Returns how the data of a task, a key of ``TASKS``, are generated."""
    count = max(1, min(_MAX_SHARDS, steps // _MIN_SHARD_STEPS))
    bounds = itertools.pairwise(steps * i // count for i in range(count + 1))
    shards = [Shard(TASKS[task], seed, i, 1, end - start) for i, (start, end) in enumerate(bounds)]
    return Procedure(
        task=TASKS[task],
        shards=shards,
        collect=collect,
        metadata={
            "algorithm_name": "waypoints on shortest paths, PD controller",
            "description": "A ball is driven from one random goal to the next, after the procedure "
            f"of Minari's D4RL/pointmaze/{task}-v2. An episode ends, truncated, at its goal.",
        },
        choices={},
    )


def collect(shard: Shard, check: Callable[[], None]) -> list[EpisodeBuffer]:
    """Drives the ball from goal to goal for the steps of one shard."""
    env = build_environment(shard.task)
    controller = PointController(shard.task.planner())
    reset_seed, generator = randomness(shard.seed, shard.first)
    noise = generator.normal(scale=ACTION_NOISE, size=(shard.steps, 2)).tolist()
    states = np.empty((shard.steps + 1, 4))  # x, y (m) and their velocities (m/s).
    actions = np.empty((shard.steps, 2), dtype=np.float32)

    observation, _ = env.reset(seed=reset_seed)
    states[0] = observation["observation"]
    goals, ends = [env.goal.copy()], [0]
    controller.head_for(env.goal)
    for t in range(shard.steps):
        check()
        steer_x, steer_y = controller.action(states[t].tolist())
        noise_x, noise_y = noise[t]
        actions[t] = _clip(steer_x + noise_x), _clip(steer_y + noise_y)
        observation, _, _, _, info = env.step(actions[t])
        states[t + 1] = observation["observation"]
        if info["success"]:
            ends.append(t + 1)
            goals.append(env.goal.copy())  # Drawn by that step; the observation has the old one.
            controller.head_for(env.goal)
    if ends[-1] != shard.steps:
        ends.append(shard.steps)
    episodes = []
    for goal, (start, end) in zip(goals, itertools.pairwise(ends), strict=False):
        seen, seed = states[start : end + 1], None if start else reset_seed
        episodes.append(maze_episode(seen, seen[:, :2], actions[start:end], goal, seed))
    return episodes


class PointController:
    """Drives the ball along the waypoints: a PD controller with the gains of D4RL's."""

    def __init__(self, planner: MazePlanner) -> None:
        self._planner = planner
        _, self._right, _, self._top = planner.maze.extent
        self._waypoints: list[list[list[float]]] = []

    def head_for(self, goal: Float64) -> None:
        """Chooses the goal, [2] in meters, that the following actions lead to."""
        self._waypoints = self._planner.waypoint_table(goal).tolist()

    def action(self, state: list[float]) -> tuple[float, float]:
        """Returns the action, inside [-1, 1], for a state (x, y and their velocities).

        Plain floats on purpose: this runs at every step, where NumPy would take most of the time.
        """
        x, y, x_velocity, y_velocity = state
        row = math.floor((self._top - y) / SCALING)
        column = math.floor((x + self._right) / SCALING)
        target_x, target_y = self._waypoints[row][column]
        return (
            _clip(POSITION_GAIN * (target_x - x) - VELOCITY_GAIN * x_velocity),
            _clip(POSITION_GAIN * (target_y - y) - VELOCITY_GAIN * y_velocity),
        )


def _clip(value: float) -> float:
    return min(1.0, max(-1.0, value))
