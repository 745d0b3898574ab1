"""Fine-tuning on AntMaze datasets that this package generates, from 150,000 offline updates."""

import ml_collections

from iql_jax.training.config import finetune_config
from iql_jax.training.presets import preset


def get_config() -> ml_collections.ConfigDict:
    offline = preset("antmaze_generated")
    config = finetune_config(offline)
    config.num_pretraining_steps = offline.max_steps
    config.max_steps = 400_000
    config.opt_decay_schedule = "cosine"
    config.num_envs = 16
    return config
