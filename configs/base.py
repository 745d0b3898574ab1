"""The defaults of every key, the paper's where it has one; iql_jax/config.py lists them."""

import ml_collections

from iql_jax.config import base_config


def get_config() -> ml_collections.ConfigDict:
    return base_config()
