"""PointMaze fine-tuning, small: from a short offline phase, in minutes."""

import ml_collections

from configs import pointmaze
from iql_jax.training.config import finetune_config


def get_config() -> ml_collections.ConfigDict:
    config = finetune_config(pointmaze.get_config())
    config.num_pretraining_steps = 20_000
    config.max_steps = 50_000
    config.replay_buffer_size = 1_100_000
    config.eval_interval = 10_000
    return config
