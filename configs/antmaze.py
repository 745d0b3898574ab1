"""AntMaze with the paper's settings."""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.dataset = "D4RL/antmaze/umaze-v1"
    config.expectile = 0.9
    config.temperature = 10.0
    config.reward_transform = "minus_one"
    # Two choices about the data that the paper did not make, and that Minari's AntMaze needs: most
    # of its steps show ants that wait at a goal, and velocities are ten times as large as angles.
    # Without them it learns several times more slowly; D4RL's way is False for both.
    config.maze_drop_after_success = True
    config.normalize_observations = True
    config.eval_interval = 100_000
    config.eval_episodes = 100
    return config
