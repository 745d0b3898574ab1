"""The defaults of every key: the paper's settings where it has one (iql_jax/config.py lists all)."""

import ml_collections

from iql_jax.config import base_config


def get_config() -> ml_collections.ConfigDict:
    return base_config()
