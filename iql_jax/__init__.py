"""Implicit Q-Learning in JAX: offline training, fine-tuning, evaluation and datasets.

The names below are imported at first use, so that ``import iql_jax`` alone brings in nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iql_jax.algorithm import AgentConfig, create_state, update, update_n
    from iql_jax.data.load import load_dataset
    from iql_jax.envs.make import make_environment
    from iql_jax.training.finetune import train_finetune
    from iql_jax.training.load import load_policy, load_run
    from iql_jax.training.offline import train_offline
    from iql_jax.training.presets import load_config

__version__ = "0.2.0"

__all__ = [
    "AgentConfig",
    "create_state",
    "load_config",
    "load_dataset",
    "load_policy",
    "load_run",
    "make_environment",
    "train_finetune",
    "train_offline",
    "update",
    "update_n",
]

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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
