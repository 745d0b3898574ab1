"""Adroit (pen, hammer, door, relocate) with the paper's settings: dropout in the actor."""

import ml_collections

from iql_jax.training.config import base_config


def get_config() -> ml_collections.ConfigDict:
    config = base_config()
    config.dataset = "D4RL/door/human-v2"
    config.expectile = 0.7
    config.temperature = 0.5
    config.dropout_rate = 0.1
    config.eval_interval = 100_000
    config.eval_episodes = 100
    return config
