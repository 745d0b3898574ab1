"""Measures the packaged ant controller in AntMaze, below the waypoint planner.

Run it as ``python -m iql_jax.collect.evaluate_ant [--episodes N] [--controller FILE]``.
"""

import argparse
import dataclasses
import pathlib
from typing import Any

import gymnasium as gym
import gymnasium_robotics
import numpy as np
import numpy.typing as npt

from iql_jax.collect.ant_controller import PACKAGED_CONTROLLER, AntController, rotation_matrices
from iql_jax.collect.planner import MazePlanner
from iql_jax.maze import GOAL_RADIUS, MazeMap

ACTION_NOISE = 0.2
MAX_STEPS = 1000


@dataclasses.dataclass(frozen=True)
class Route:
    """From the evaluation start of an AntMaze to its evaluation goal.

    Attributes:
        env_id: the Gymnasium id.
        start_cell: row and column.
        goal_cell: row and column.
    """

    env_id: str
    start_cell: tuple[int, int]
    goal_cell: tuple[int, int]


ROUTES = {
    "umaze": Route("AntMaze_UMaze-v4", (3, 1), (1, 1)),
    "medium": Route("AntMaze_Medium-v4", (1, 1), (6, 6)),
    "large": Route("AntMaze_Large-v4", (1, 1), (7, 9)),
}


@dataclasses.dataclass(frozen=True)
class RouteResult:
    """What became of E episodes on one route.

    Attributes:
        path_length: metres from cell to cell along the shortest path.
        arrivals: [E] steps until the goal was first reached; ``MAX_STEPS`` + 1 where it never was.
        fallen_share: share of the steps before arrival in which the ant lay on its back or side.
    """

    path_length: float
    arrivals: npt.NDArray[np.int64]
    fallen_share: float

    @property
    def arrival_share(self) -> float:
        """Share of the episodes that reached the goal."""
        return float(np.mean(self.arrivals <= MAX_STEPS))


def run_route(controller: AntController, route: Route, *, episodes: int, seed: int) -> RouteResult:
    """Walk all episodes of a route side by side, each until it arrives."""
    envs = [_make(route) for _ in range(episodes)]
    maze = MazeMap.from_lists(envs[0].maze.maze_map, envs[0].maze.maze_size_scaling)
    planner = MazePlanner(maze)
    options = {"reset_cell": np.array(route.start_cell), "goal_cell": np.array(route.goal_cell)}
    states = [env.reset(seed=seed + i, options=options)[0] for i, env in enumerate(envs)]
    generator = np.random.default_rng(seed)

    arrivals = np.full(episodes, MAX_STEPS + 1)
    walking = np.arange(episodes)
    fallen = total = 0
    for step in range(1, MAX_STEPS + 1):
        noise = generator.normal(scale=ACTION_NOISE, size=(len(walking), 8))
        actions = _steer(controller, planner, [states[i] for i in walking]) + noise
        for i, action in zip(walking, np.clip(actions, -1.0, 1.0), strict=True):
            states[i] = envs[i].step(action)[0]
        quaternions = np.stack([states[i]["observation"][1:5] for i in walking])
        fallen += int(np.sum(rotation_matrices(quaternions)[:, 2, 2] < 0.0))
        total += len(walking)
        offsets = np.stack(
            [states[i]["desired_goal"] - states[i]["achieved_goal"] for i in walking]
        )
        arrived = np.linalg.norm(offsets, axis=-1) <= GOAL_RADIUS
        arrivals[walking[arrived]] = step
        walking = walking[~arrived]
        if not len(walking):
            break
    for env in envs:
        env.close()
    path_length = planner.distances(route.goal_cell)[route.start_cell] * maze.scaling
    return RouteResult(float(path_length), arrivals, fallen / total)


def _make(route: Route) -> Any:
    # The goal must neither end the episode nor move; the time limit is this module's.
    return gym.make(
        route.env_id, continuing_task=True, reset_target=False, max_episode_steps=MAX_STEPS + 1
    ).unwrapped


def _steer(
    controller: AntController, planner: MazePlanner, states: list[dict[str, Any]]
) -> npt.NDArray[np.float32]:
    """Compute the actions, [B, 8], that lead B ants towards their next waypoints."""
    positions = np.stack([state["achieved_goal"] for state in states])
    goals = np.stack([state["desired_goal"] for state in states])
    offsets = planner.waypoints(positions, goals) - positions
    directions = offsets / (np.linalg.norm(offsets, axis=-1, keepdims=True) + 1e-8)
    return controller(np.stack([state["observation"] for state in states]), directions)


def main() -> None:
    """Print one line for each maze."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--controller", type=pathlib.Path, default=PACKAGED_CONTROLLER)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    gym.register_envs(gymnasium_robotics)
    controller = AntController.load(arguments.controller)
    print("maze     path   arrived   median first arrival (90 %)   fallen")
    for name, route in ROUTES.items():
        result = run_route(controller, route, episodes=arguments.episodes, seed=arguments.seed)
        median, slow = np.quantile(result.arrivals, [0.5, 0.9])
        print(
            f"{name:7} {result.path_length:3.0f} m {result.arrival_share:9.1%} "
            f"{median:16.0f} steps ({slow:4.0f}) {result.fallen_share:15.2%}"
        )


if __name__ == "__main__":
    main()
