"""Franka Kitchen with the paper's settings: those of Adroit."""

import ml_collections

from configs import adroit


def get_config() -> ml_collections.ConfigDict:
    config = adroit.get_config()
    config.dataset = "D4RL/kitchen/complete-v2"
    return config
