"""Adroit fine-tuning: settings of configs/adroit.py."""

import ml_collections

from iql_jax.training.config import finetune_config
from iql_jax.training.presets import preset


def get_config() -> ml_collections.ConfigDict:
    return finetune_config(preset("adroit"))
