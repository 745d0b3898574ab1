"""Measures the collecting policy under its action noise, from evaluation start to goal.

Run it as ``python scripts/evaluate_ant_controller.py [--episodes N] [--controller FILE]``.
"""

import argparse
import dataclasses
import pathlib

import numpy as np
import numpy.typing as npt

from iql_jax.generation.ant_controller import (
    ACTION_DIM,
    PACKAGED_CONTROLLER,
    AntController,
    headings,
    rotation_matrices,
)
from iql_jax.generation.antmaze import ACTION_NOISE, TASKS
from iql_jax.generation.ants import Ants, steer

ROUTES = ("umaze", "medium-play", "large-play")
"""Tasks whose evaluation routes are measured; those of the others are the same."""


@dataclasses.dataclass(frozen=True)
class RouteResult:
    """What became of E episodes on one route.

    Attributes:
        path_length: meters from cell to cell along the shortest path.
        limit: the steps that an episode may take.
        arrivals: [E] steps until the goal was first reached; ``limit`` + 1 where it never was.
        fallen_share: share of the steps before arrival in which the ant lay on its back or side.
        falls: how often an upright ant came to lie so, in 1,000 of these steps.
        heading_share: share of these steps in which it was turned less than 30 degrees from the
            world's x axis.
    """

    path_length: float
    limit: int
    arrivals: npt.NDArray[np.int64]
    fallen_share: float
    falls: float
    heading_share: float

    @property
    def arrival_share(self) -> float:
        """Share of the episodes that reached the goal."""
        return float(np.mean(self.arrivals <= self.limit))


def run_route(controller: AntController, task: str, *, episodes: int, seed: int) -> RouteResult:
    """Walk all episodes of a task's evaluation route side by side, each until it arrives."""
    maze, planner, limit = TASKS[task], TASKS[task].planner(), TASKS[task].time_limit
    ants = Ants(maze, episodes, evaluation=True)
    for i in range(episodes):
        ants.reset(i, seed + i)
    generator = np.random.default_rng(seed)
    arrivals = np.full(episodes, limit + 1)
    lying = np.zeros(episodes, bool)
    fallen, ahead, falls = [], [], 0
    for step in range(1, limit + 1):
        noise = generator.normal(scale=ACTION_NOISE, size=(episodes, ACTION_DIM))
        actions = np.clip(steer(controller, ants) + noise, -1.0, 1.0)
        ants.step(actions.astype(np.float32))
        walking = arrivals > limit
        before, lying = lying, ants.upright() < 0.0
        falls += int((lying & ~before & walking).sum())
        fallen.append(lying[walking])
        ahead.append(np.abs(headings(rotation_matrices(ants.states[walking, 3:7]))) < np.pi / 6)
        arrivals[walking & ants.at_goal()] = step
        if (arrivals <= limit).all():
            break
    lay = np.concatenate(fallen)
    assert maze.start_cell is not None
    cells = planner.distances[maze.goal_cell + maze.start_cell]
    return RouteResult(
        path_length=float(cells * planner.maze.scaling),
        limit=limit,
        arrivals=arrivals,
        fallen_share=float(np.mean(lay)),
        falls=1_000 * falls / len(lay),
        heading_share=float(np.mean(np.concatenate(ahead))),
    )


def main() -> None:
    """Print one line for each maze."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--controller", type=pathlib.Path, default=PACKAGED_CONTROLLER)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.episodes < 1:
        parser.error(f"--episodes must be at least 1, not {arguments.episodes}")

    controller = AntController.load(arguments.controller)
    print(
        "route         path   arrived   median steps (90 %)   fallen   falls in 1,000 steps   "
        "turned < 30 degrees"
    )
    for task in ROUTES:
        result = run_route(controller, task, episodes=arguments.episodes, seed=arguments.seed)
        median, slow = np.quantile(result.arrivals, [0.5, 0.9])
        print(
            f"{task:12} {result.path_length:3.0f} m {result.arrival_share:9.1%} "
            f"{median:14.0f} ({slow:4.0f}) {result.fallen_share:8.2%} {result.falls:22.2f} "
            f"{result.heading_share:21.0%}"
        )


if __name__ == "__main__":
    main()
