"""AntMaze fine-tuning with the paper's settings: 1M offline updates, then 1M environment steps."""

import ml_collections

from iql_jax.training.config import finetune_config
from iql_jax.training.presets import preset


def get_config() -> ml_collections.ConfigDict:
    return finetune_config(preset("antmaze"))
