"""Fine-tuning on AntMaze datasets that this package generates, from 150,000 offline updates."""

import ml_collections

from configs import antmaze_generated
from iql_jax.training.config import finetune_config


def get_config() -> ml_collections.ConfigDict:
    offline = antmaze_generated.get_config()
    config = finetune_config(offline)
    config.num_pretraining_steps = offline.max_steps
    config.max_steps = 400_000
    config.opt_decay_schedule = "cosine"
    config.num_envs = 16
    return config
