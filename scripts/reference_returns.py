"""Measures the reference returns of the generated mazes: random actions, and the collecting policy.

Run it as ``python scripts/reference_returns.py``; some minutes on one core. The tables ``TASKS`` of
``iql_jax.generation.pointmaze`` and ``antmaze`` hold what it prints. Minari defines its reference
scores so. A maze's task goes on at the goal until the time limit, so that its return counts the
steps spent there.
"""

import numpy as np

from iql_jax.generation import antmaze, pointmaze
from iql_jax.generation.ant_controller import ACTION_DIM, AntController
from iql_jax.generation.ants import Ants, steer
from iql_jax.generation.maze_tasks import build_environment

EPISODES = 100


def randomness(episode: int) -> tuple[int, np.random.Generator]:
    """Returns the seed of a reset, and a generator, of one episode."""
    sequence = np.random.SeedSequence(0, spawn_key=(1, episode))
    return int(sequence.generate_state(1)[0]), np.random.default_rng(sequence)


def point_return(task: str, episode: int, planned: bool) -> float:
    """Returns the sum of an episode's rewards: of the controller, or of random actions."""
    maze = pointmaze.TASKS[task]
    env, limit = build_environment(maze, evaluation=True), maze.time_limit
    controller = pointmaze.PointController(maze.planner())
    reset_seed, generator = randomness(episode)
    actions = generator.uniform(-1.0, 1.0, size=(limit, 2)).astype(np.float32)
    observation, _ = env.reset(seed=reset_seed)
    controller.head_for(env.goal)
    total = 0.0
    for action in actions:
        if planned:
            action = np.array(controller.action(observation["observation"].tolist()), np.float32)
        observation, reward, _, _, _ = env.step(action)
        total += float(reward)
    return total


def ant_returns(task: str, planned: bool) -> np.ndarray:
    """Returns the sums of the rewards of all episodes, whose ants walk side by side."""
    maze = antmaze.TASKS[task]
    ants = Ants(maze, EPISODES, evaluation=True)
    controller, generators = AntController.load(), []
    for i in range(EPISODES):
        reset_seed, generator = randomness(i)
        ants.reset(i, reset_seed)
        generators.append(generator)
    returns = np.zeros(EPISODES)
    for _ in range(maze.time_limit):
        drawn = [generator.uniform(-1.0, 1.0, ACTION_DIM) for generator in generators]
        random_actions = np.stack(drawn).astype(np.float32)
        ants.step(steer(controller, ants) if planned else random_actions)
        returns += ants.at_goal()
    return returns


def main() -> None:
    """Prints a line for each maze."""
    for task in pointmaze.TASKS:
        means = [
            np.mean([point_return(task, episode, planned) for episode in range(EPISODES)])
            for planned in (False, True)
        ]
        print(f"pointmaze {task}: {means[0]:.2f}, {means[1]:.2f}", flush=True)
    for task in ("umaze", "medium-play", "large-play"):  # The others are evaluated as these.
        means = [ant_returns(task, planned).mean() for planned in (False, True)]
        print(f"antmaze {task}: {means[0]:.2f}, {means[1]:.2f}", flush=True)


if __name__ == "__main__":
    main()
