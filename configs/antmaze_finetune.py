"""AntMaze fine-tuning with the paper's settings: 1M offline updates, then 1M environment steps."""

import ml_collections

from configs import antmaze
from iql_jax.training.config import finetune_config


def get_config() -> ml_collections.ConfigDict:
    return finetune_config(antmaze.get_config())
