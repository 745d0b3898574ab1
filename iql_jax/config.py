"""The settings of a run: one frozen, validated dataclass, made once from the config file.

``Config`` is the single list of keys, their types, defaults and meaning. A config file's
``get_config()`` starts from ``base_config()`` and overrides a few keys; ``from_mapping`` checks the
result. Key names follow the official implementation where it has one.
"""

import dataclasses
import difflib
import math
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ml_collections

from iql_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of an offline run. Intervals and budgets are counted in updates."""

    # The run.
    seed: int = 42
    max_steps: int = 1_000_000
    dataset: str = ""  # A Minari dataset id, such as 'D4RL/antmaze/umaze-v1'.

    # The algorithm (Kostrikov et al. 2021).
    batch_size: int = 256
    hidden_dims: tuple[int, ...] = (256, 256)
    actor_lr: float = 3e-4
    value_lr: float = 3e-4
    critic_lr: float = 3e-4
    discount: float = 0.99
    expectile: float = 0.7  # tau of the paper: 0.5 is the mean, towards 1 the maximum.
    temperature: float = 3.0  # beta of the paper: multiplies the advantage, 0 is cloning.
    max_weight: float = 100.0  # Upper clip of the actor's weights.
    tau: float = 0.005  # Share of the new critics in the target critics at each update.
    dropout_rate: float = 0.0  # In the actor's hidden layers; 0 leaves dropout out.
    opt_decay_schedule: str = "cosine"  # Of the actor's learning rate: 'cosine' or 'none'.

    # The data.
    reward_transform: str = "none"  # 'none', 'minus_one' or 'return_range'.
    normalize_observations: bool = False
    maze_goal: str = "eval"  # 'eval', 'episode' or 'stored'; see iql_jax/data/maze_data.py.
    maze_terminate_at_success: bool = True
    maze_drop_after_success: bool = False
    trust_environment: bool = False  # Build environments from namespaces not known to be safe.

    # Evaluation, logging, saving.
    eval_interval: int = 5_000
    eval_episodes: int = 10  # 0 trains without an environment.
    eval_envs: int = 0  # Environments stepped at once; 0 chooses from the number of cores.
    log_interval: int = 1_000
    checkpoint_interval: int = 50_000
    progress: bool = True
    wandb_project: str = ""  # Empty: no Weights & Biases.

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        for field, (accepts, expected) in _RANGES.items():
            number = getattr(self, field)
            if not (math.isfinite(number) and accepts(number)):
                raise UserError(f"config.{field} is {number!r}; it must be {expected}")
        for field, choices in _CHOICES.items():
            choice = getattr(self, field)
            if choice not in choices:
                raise UserError(
                    f"config.{field} is {choice!r}; it must be one of {', '.join(choices)}"
                    f"{_did_you_mean(choice, choices)}"
                )
        if not self.hidden_dims or any(width < 1 for width in self.hidden_dims):
            raise UserError(
                f"config.hidden_dims is {self.hidden_dims!r}; "
                "it must hold at least one layer, each of width 1 or more"
            )
        if not self.dataset:
            raise UserError("config.dataset is empty; set it to a Minari dataset id")

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON types."""
        settings = dataclasses.asdict(self)
        return {
            key: list(setting) if isinstance(setting, tuple) else setting
            for key, setting in settings.items()
        }


def _positive(number: float) -> bool:
    return number > 0


def _non_negative(number: float) -> bool:
    return number >= 0


_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "seed": (lambda n: 0 <= n < 2**32, "in [0, 2**32)"),
    "max_steps": (_positive, "at least 1"),
    "batch_size": (_positive, "at least 1"),
    "actor_lr": (_positive, "a positive rate"),
    "value_lr": (_positive, "a positive rate"),
    "critic_lr": (_positive, "a positive rate"),
    "discount": (lambda n: 0 <= n <= 1, "in [0, 1]"),
    "expectile": (lambda n: 0 < n < 1, "in (0, 1)"),
    "temperature": (_non_negative, "0 or more"),
    "max_weight": (_positive, "positive"),
    "tau": (lambda n: 0 < n <= 1, "in (0, 1]"),
    "dropout_rate": (lambda n: 0 <= n < 1, "in [0, 1)"),
    "eval_interval": (_positive, "at least 1"),
    "eval_episodes": (_non_negative, "0 or more"),
    "eval_envs": (_non_negative, "0 or more"),
    "log_interval": (_positive, "at least 1"),
    "checkpoint_interval": (_positive, "at least 1"),
}

_CHOICES: dict[str, tuple[str, ...]] = {
    "opt_decay_schedule": ("cosine", "none"),
    "reward_transform": ("none", "minus_one", "return_range"),
    "maze_goal": ("eval", "episode", "stored"),
}


def base_config() -> ml_collections.ConfigDict:
    """The defaults of every key, for a config file to override a few of."""
    return ml_collections.ConfigDict(
        {field.name: field.default for field in dataclasses.fields(Config)}
    )


def from_mapping(settings: Mapping[str, Any]) -> Config:
    """Check keys, types and ranges; the result is frozen.

    Args:
        settings: Any subset of the keys of ``Config``. Integers are taken for floats, lists for
            tuples, and None for an empty string, 0.0 or 'none' where the official configs write it.

    Raises:
        UserError: On an unknown key (the nearest is named), a wrong type or a value out of range.
    """
    hints = typing.get_type_hints(Config)
    for key in settings:
        if key not in hints:
            raise UserError(f"unknown config key {key!r}{_did_you_mean(key, hints)}")
    return Config(**{key: _coerce(key, settings[key], hints[key]) for key in settings})


def _coerce(key: str, setting: Any, hint: Any) -> Any:
    """``setting`` as the type that ``Config`` declares, or a UserError."""
    if setting is None and key in _MEANING_OF_NONE:
        return _MEANING_OF_NONE[key]
    if hint is float and isinstance(setting, int) and not isinstance(setting, bool):
        return float(setting)
    if typing.get_origin(hint) is tuple:
        if isinstance(setting, list | tuple) and all(type(item) is int for item in setting):
            return tuple(setting)
        raise UserError(f"config.{key} is {setting!r}; it must be a tuple of integers")
    if type(setting) is not hint:
        raise UserError(
            f"config.{key} is {setting!r}, a {type(setting).__name__}; it must be a {hint.__name__}"
        )
    return setting


# The official configs write None for "no decay" and "no dropout".
_MEANING_OF_NONE: dict[str, Any] = {"opt_decay_schedule": "none", "dropout_rate": 0.0}


def _did_you_mean(word: str, candidates: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(str(word), list(candidates), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
