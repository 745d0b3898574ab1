"""The defaults of every key; iql_jax/training/config.py lists them."""

import ml_collections

from iql_jax.training.config import base_config


def get_config() -> ml_collections.ConfigDict:
    return base_config()
