"""Franka Kitchen with the paper's settings: those of Adroit."""

import ml_collections

from iql_jax.training.presets import preset


def get_config() -> ml_collections.ConfigDict:
    config = preset("adroit")
    config.dataset = "D4RL/kitchen/complete-v2"
    return config
