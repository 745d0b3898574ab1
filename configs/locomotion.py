"""Locomotion (halfcheetah, hopper, walker2d) with the paper's settings."""

import ml_collections

from iql_jax.training.config import base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.dataset = "mujoco/hopper/medium-v0"
    config.expectile = 0.7
    config.temperature = 3.0
    config.reward_transform = "return_range"
    config.eval_interval = 5_000
    config.eval_episodes = 10
    return config
