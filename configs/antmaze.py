"""AntMaze with the paper's settings."""

import ml_collections

from iql_jax.training.config import base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.dataset = "D4RL/antmaze/umaze-v1"
    config.expectile = 0.9
    config.temperature = 10.0
    config.reward_transform = "minus_one"
    # The one choice that the paper did not make. Most steps of Minari's AntMaze show ants that wait
    # at a goal: without it, umaze learns at half the pace or less.
    config.maze_drop = "waiting"
    config.eval_interval = 100_000
    config.eval_episodes = 100
    return config
