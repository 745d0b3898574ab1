"""Implicit Q-Learning in JAX: offline training, fine-tuning, evaluation and datasets.

The names below are imported at first use, so that ``import iql_jax`` alone brings in nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iql_jax.algorithm import AgentConfig as AgentConfig
    from iql_jax.algorithm import create_state as create_state
    from iql_jax.algorithm import update as update
    from iql_jax.algorithm import update_n as update_n
    from iql_jax.data.load import load_dataset as load_dataset
    from iql_jax.envs.make import make_environment as make_environment
    from iql_jax.training.finetune import train_finetune as train_finetune
    from iql_jax.training.load import load_policy as load_policy
    from iql_jax.training.load import load_run as load_run
    from iql_jax.training.offline import train_offline as train_offline
    from iql_jax.training.presets import load_config as load_config

__version__ = "0.2.0"

_MODULES = {
    "AgentConfig": "algorithm",
    "create_state": "algorithm",
    "load_config": "training.presets",
    "load_dataset": "data.load",
    "load_policy": "training.load",
    "load_run": "training.load",
    "make_environment": "envs.make",
    "train_finetune": "training.finetune",
    "train_offline": "training.offline",
    "update": "algorithm",
    "update_n": "algorithm",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
