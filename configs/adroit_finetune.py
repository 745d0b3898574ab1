"""Adroit fine-tuning: settings of configs/adroit.py."""

import ml_collections

from configs import adroit
from iql_jax.training.config import finetune_config


def get_config() -> ml_collections.ConfigDict:
    return finetune_config(adroit.get_config())
