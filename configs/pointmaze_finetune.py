"""PointMaze fine-tuning, small: from a short offline phase, in minutes."""

import ml_collections

from iql_jax.training.config import finetune_config
from iql_jax.training.presets import preset


def get_config() -> ml_collections.ConfigDict:
    config = finetune_config(preset("pointmaze"))
    config.num_pretraining_steps = 20_000
    config.max_steps = 50_000
    config.replay_buffer_size = 1_100_000
    config.eval_interval = 10_000
    return config
