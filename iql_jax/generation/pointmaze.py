"""PointMaze datasets like Minari's ``D4RL/pointmaze/*-v2``.

The procedure is theirs: a ball is driven to one random goal after another in a task that never
ends, by a PD controller that follows waypoints, under Gaussian action noise; an episode ends, by
truncation, at the step that reaches the goal. Here an episode holds one goal, from its first
observation to its last (Minari's first observations have the goal of the episode before), and the
waypoints come from a planner without memory.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from minari.data_collector import EpisodeBuffer

from iql_jax.envs.mazes import GOAL_RADIUS
from iql_jax.generation.maze_tasks import MazeTask, build_environment, build_planner
from iql_jax.generation.planner import MazePlanner
from iql_jax.generation.procedure import Procedure, randomness
from iql_jax.utils.arrays import Bool, Float32, Float64

SCALING = 1.0
POSITION_GAIN = 10.0  # The gains are those of D4RL's controller.
VELOCITY_GAIN = 1.0
ACTION_NOISE = 0.5

_MAX_SHARDS = 100
_MIN_SHARD_STEPS = 500


def _task(env_id: str, goal_cell: tuple[int, int], returns: tuple[float, float]) -> MazeTask:
    return MazeTask(
        env_id=env_id,
        scaling=SCALING,
        goal_cell=goal_cell,
        reference_returns=returns,
        draws_goals=True,
    )


TASKS = {
    "umaze": _task("PointMaze_UMaze-v3", (1, 1), (9.28, 228.26)),
    "medium": _task("PointMaze_Medium-v3", (6, 6), (14.27, 476.12)),
    "large": _task("PointMaze_Large-v3", (7, 9), (3.07, 627.75)),
}


@dataclasses.dataclass(frozen=True)
class Shard:
    """Steps of one ball; their content depends on nothing else."""

    task: MazeTask
    seed: int
    index: int
    steps: int


def procedure(task: str, steps: int, seed: int) -> Procedure:
    """Returns how the data of a task are generated.

    Args:
        task: a key of ``TASKS``.
        steps: the number of transitions.
        seed: of all randomness.
    """
    maze = TASKS[task]
    env = build_environment(maze)
    return Procedure(
        env_spec=maze.collecting_spec(),
        observation_space=env.observation_space,
        action_space=env.action_space,
        shards=_shards(maze, steps, seed),
        collect=collect,
        metadata=maze.metadata()
        | {
            "algorithm_name": "waypoints on shortest paths, PD controller",
            "description": (
                f"A ball is driven from one random goal to the next in {maze.env_id}, by a PD "
                "controller that follows waypoints on a shortest path, with Gaussian action noise "
                f"of standard deviation {ACTION_NOISE}. An episode ends, truncated, at the step "
                f"that comes within {GOAL_RADIUS} m of its goal. The procedure is that of Minari's "
                f"D4RL/pointmaze/{task}-v2, except that each episode holds one goal from its first "
                "observation on."
            ),
        },
        choices={"action_noise": ACTION_NOISE},
    )


def _shards(task: MazeTask, steps: int, seed: int) -> list[Shard]:
    """Cuts the steps into shards of nearly equal size; their number depends on the steps alone."""
    count = max(1, min(_MAX_SHARDS, steps // _MIN_SHARD_STEPS))
    bounds = [steps * i // count for i in range(count + 1)]
    return [Shard(task, seed, i, bounds[i + 1] - bounds[i]) for i in range(count)]


def collect(shard: Shard, check: Callable[[], None]) -> list[EpisodeBuffer]:
    """Drives the ball from goal to goal for the steps of one shard."""
    env = build_environment(shard.task)
    controller = PointController(build_planner(shard.task))
    reset_seed, generator = randomness(shard.seed, shard.index)
    noise = generator.normal(scale=ACTION_NOISE, size=(shard.steps, 2)).tolist()
    states = np.empty((shard.steps + 1, 4))  # x, y (m) and their velocities (m/s).
    actions = np.empty((shard.steps, 2), dtype=np.float32)
    rewards = np.empty(shard.steps)
    successes = np.empty(shard.steps + 1, dtype=np.bool_)  # At the goal that was current then.

    observation, info = env.reset(seed=reset_seed)
    states[0], successes[0] = observation["observation"], info["success"]
    goals, ends = [env.goal.copy()], [0]
    controller.head_for(env.goal)
    for t in range(shard.steps):
        check()
        steer_x, steer_y = controller.action(states[t].tolist())
        noise_x, noise_y = noise[t]
        actions[t] = _clip(steer_x + noise_x), _clip(steer_y + noise_y)
        observation, rewards[t], _, _, info = env.step(actions[t])
        states[t + 1], successes[t + 1] = observation["observation"], info["success"]
        if info["success"]:
            ends.append(t + 1)
            goals.append(env.goal.copy())  # Drawn by that step; the observation has the old one.
            controller.head_for(env.goal)
    if ends[-1] != shard.steps:
        ends.append(shard.steps)
    return [
        _episode(goal, states[i : j + 1], actions[i:j], rewards[i:j], successes[i : j + 1], i == 0)
        for goal, i, j in zip(goals, ends[:-1], ends[1:], strict=False)
    ]


def _episode(
    goal: Float64,
    states: Float64,
    actions: Float32,
    rewards: Float64,
    successes: Bool,
    is_first: bool,
) -> EpisodeBuffer:
    positions, velocities = states[:, :2], states[:, 2:]
    goals = np.tile(goal, (len(states), 1))
    successes = successes.copy()
    if not is_first:  # That success belongs to the goal of the episode before.
        successes[0] = False
    return EpisodeBuffer(
        observations={"observation": states, "achieved_goal": positions, "desired_goal": goals},
        actions=actions,
        rewards=rewards,
        terminations=np.zeros(len(actions), dtype=np.bool_),
        truncations=np.arange(len(actions)) == len(actions) - 1,
        infos={"success": successes, "qpos": positions, "qvel": velocities, "goal": goals},
    )


class PointController:
    """Drives the ball along the waypoints: a PD controller with the gains of D4RL's.

    Args:
        planner: the planner of the maze.
    """

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
