"""The settings of a run: one frozen, validated dataclass, made once from the config file.

``Config`` is the single list of keys, their types, defaults and meaning; ``FinetuneConfig`` adds
those of fine-tuning. A config file's ``get_config()`` starts from ``base_config()`` and overrides a
few keys; ``from_mapping`` checks the result. Key names follow the official implementation where it
has one.
"""

import dataclasses
import difflib
import math
import numbers
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import ml_collections

from iql_jax.algorithm.types import NEEDS_NEXT_ACTIONS
from iql_jax.data.config import DataConfig
from iql_jax.utils.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(DataConfig):
    """Settings of an offline run. Intervals and budgets are counted in updates."""

    # The run.
    seed: int = 42
    num_seeds: int = 1  # From two on: a population of seed, seed + 1, ..., a run for each.
    population_size: int = 0  # Runs trained at once; 0: all that are alike in structure.
    max_steps: int = 1_000_000

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

    # Other networks than the paper's.
    layer_norm: bool = False  # In V and the critics, before each ReLU: keeps values in bounds.

    # Other objectives and extractions than IQL's; see iql_jax/algorithm.
    objective: str = "iql"  # 'iql', 'sarsa', 'expectile_sarsa' or 'q_learning'.
    actor_loss: str = "awr"  # 'awr', 'ddpgbc' or 'bc'.
    alpha: float = 0.3  # Of 'ddpgbc': the weight of staying with the data.
    max_actions: int = 10  # Of 'q_learning': how many continuous actions the maximum is over.
    max_over: str = "policy"  # Of 'q_learning': what draws them, 'policy' or 'uniform'.

    # The data, besides those of DataConfig.
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
            number = getattr(self, field, None)  # Some are of fine-tuning alone.
            if number is not None and not (math.isfinite(number) and accepts(number)):
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

    @property
    def num_updates(self) -> int:
        """The updates of the whole run."""
        return self.max_steps

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON types."""
        return _plain(dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig(Config):
    """Settings of an offline phase and a fine-tuning phase after it.

    Intervals are counted in updates in the first, in environment steps in the second.
    """

    num_pretraining_steps: int = 1_000_000  # Offline updates before the first environment step.
    offline_run: str = ""  # Folder of a finished offline run that takes the offline phase's place.
    max_steps: int = 1_000_000  # Environment steps.
    # 'cosine' ends with the environment steps, and begins with this run: its offline phase, if any.
    opt_decay_schedule: str = "none"
    init_dataset_size: int = 0  # Transitions of the dataset to use, drawn at random; 0 uses all.
    replay_buffer_size: int = 2_000_000  # The dataset's and the environment's together.
    # Share of a batch that is the dataset's, to the nearest transition; -1: uniform over all.
    offline_ratio: float = -1.0
    updates_per_step: int = 1  # Updates for each environment step.
    num_envs: int = 1  # Training environments stepped at once.
    train_freq: int = 1  # Steps of each environment before the updates for all of them are made.
    start_steps: int = 0  # Environment steps before the first update of the second phase.

    @property
    def num_updates(self) -> int:
        """The updates of both phases; of an offline run that took the first one's place, none."""
        offline = 0 if self.offline_run else self.num_pretraining_steps
        # Environments step together: the last steps without updates may be a part of such a step.
        idle_steps = self.start_steps // self.num_envs * self.num_envs
        return offline + (self.max_steps - idle_steps) * self.updates_per_step

    @property
    def num_offline(self) -> int | None:
        """How many of a batch are the dataset's; None where batches are drawn from all alike."""
        return None if self.offline_ratio == -1 else round(self.offline_ratio * self.batch_size)

    def __post_init__(self) -> None:
        """Refuse values outside their range, or that do not go together."""
        super().__post_init__()
        if self.num_seeds > 1:
            raise UserError(
                f"config.num_seeds is {self.num_seeds}, but fine-tuning trains one seed at a "
                "time; run this command once for each --config.seed"
            )
        for key in ["max_steps", "eval_interval"]:
            if getattr(self, key) % self.num_envs:
                raise UserError(
                    f"config.{key} is {getattr(self, key)}, not a multiple of config.num_envs "
                    f"({self.num_envs}), by which environment steps are counted"
                )
        if self.start_steps >= self.max_steps:
            raise UserError(
                f"config.start_steps is {self.start_steps}, and config.max_steps {self.max_steps}: "
                "no update would follow; start_steps must be the smaller one"
            )
        if self.objective in NEEDS_NEXT_ACTIONS:
            raise UserError(
                f"config.objective={self.objective!r} needs the action after each transition, "
                "which fine-tuning's replay buffer does not hold; use 'iql' or 'q_learning'"
            )
        if not (self.offline_ratio == -1 or 0 <= self.offline_ratio <= 1):
            raise UserError(
                f"config.offline_ratio is {self.offline_ratio}; it must be a share in [0, 1], "
                "or -1 to draw uniformly from dataset and environment together"
            )
        if 0 < self.offline_ratio < 1 and self.num_offline in (0, self.batch_size):
            raise UserError(
                f"config.offline_ratio is {self.offline_ratio}, which of config.batch_size "
                f"({self.batch_size}) comes to {self.num_offline}; say 0 or 1 if that is meant"
            )


def _positive(number: float) -> bool:
    return number > 0


def _non_negative(number: float) -> bool:
    return number >= 0


_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "seed": (lambda n: 0 <= n < 2**32, "in [0, 2**32)"),
    "num_seeds": (_positive, "at least 1"),
    "population_size": (_non_negative, "0 or more"),
    "max_steps": (_positive, "at least 1"),
    "batch_size": (_positive, "at least 1"),
    "actor_lr": (_positive, "a positive rate"),
    "value_lr": (_positive, "a positive rate"),
    "critic_lr": (_positive, "a positive rate"),
    "discount": (lambda n: 0 <= n <= 1, "in [0, 1]"),
    "expectile": (lambda n: 0 < n < 1, "in (0, 1)"),
    "temperature": (_non_negative, "0 or more"),
    "max_weight": (lambda n: 0 < n <= 1e15, "in (0, 1e15]: float32 has no gradients beyond"),
    "tau": (lambda n: 0 < n <= 1, "in (0, 1]"),
    "dropout_rate": (lambda n: 0 <= n < 1, "in [0, 1)"),
    "alpha": (_non_negative, "0 or more"),
    "max_actions": (_positive, "at least 1"),
    "top_episodes": (lambda n: 0 < n <= 1, "in (0, 1]"),
    "eval_interval": (_positive, "at least 1"),
    "eval_episodes": (_non_negative, "0 or more"),
    "eval_envs": (_non_negative, "0 or more"),
    "log_interval": (_positive, "at least 1"),
    "checkpoint_interval": (_positive, "at least 1"),
    "num_pretraining_steps": (_non_negative, "0 or more"),
    "init_dataset_size": (_non_negative, "0 or more"),
    "replay_buffer_size": (_positive, "at least 1"),
    "updates_per_step": (_positive, "at least 1"),
    "num_envs": (_positive, "at least 1"),
    "train_freq": (_positive, "at least 1"),
    "start_steps": (_non_negative, "0 or more"),
}

_CHOICES: dict[str, tuple[str, ...]] = {
    "opt_decay_schedule": ("cosine", "none"),
    "objective": ("iql", "sarsa", "expectile_sarsa", "q_learning"),
    "actor_loss": ("awr", "ddpgbc", "bc"),
    "max_over": ("policy", "uniform"),
    "reward_transform": ("none", "minus_one", "return_range"),
    "maze_goal": ("eval", "episode", "stored"),
    "maze_drop": ("nothing", "waiting_elsewhere", "waiting", "after_success"),
    "maze_walls": ("data", "evaluation"),
}


def defaults(kind: type[Config] = Config) -> dict[str, Any]:
    """The default of every key as plain JSON types."""
    return _plain({field.name: field.default for field in dataclasses.fields(kind)})


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a run record, with today's defaults of the keys that they lack."""
    return {**defaults(kind_of(settings)), **settings}


def is_of_fine_tuning(key: str) -> bool:
    """Whether only fine-tuning has this key."""
    return key in FinetuneConfig.__annotations__ and key not in Config.__annotations__


def kind_of(settings: Mapping[str, Any]) -> type[Config]:
    """The class of a mapping that has all keys of its kind of run."""
    return FinetuneConfig if "num_pretraining_steps" in settings else Config


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: list(setting) if isinstance(setting, tuple) else setting
        for key, setting in settings.items()
    }


Settings = TypeVar("Settings", bound=Config)


def base_config() -> ml_collections.ConfigDict:
    """The defaults of every key, for a config file to override a few of."""
    return ml_collections.ConfigDict(
        {field.name: field.default for field in dataclasses.fields(Config)}
    )


def finetune_config(offline: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A domain's offline config with the keys of fine-tuning at their defaults.

    These are all that ``FinetuneConfig`` sets, ``max_steps`` and ``opt_decay_schedule`` among them:
    what the offline config has for these two is of its own updates.
    """
    added = {
        field.name: field.default
        for field in dataclasses.fields(FinetuneConfig)
        if field.name in FinetuneConfig.__annotations__
    }
    return ml_collections.ConfigDict({**offline.to_dict(), **added})


# mypy takes no default for a parameter whose type is a variable, though Config is one of its types.
def from_mapping(settings: Mapping[str, Any], kind: type[Settings] = Config) -> Settings:  # type: ignore[assignment]
    """Check keys, types and ranges; the result is frozen.

    Args:
        settings: Any subset of the keys of ``kind``. Integers are taken for floats, lists for
            tuples, and None for an empty string, 0, 0.0 or 'none' where the official configs write
            it.
        kind: ``Config`` or ``FinetuneConfig``.

    Raises:
        UserError: On an unknown key (the nearest is named), a wrong type or a value out of range.
    """
    hints = typing.get_type_hints(kind)
    for key in settings:
        if key not in hints and is_of_fine_tuning(key):
            raise UserError(f"config key {key!r} is one of fine-tuning; use train_finetune.py")
        if key not in hints:
            raise UserError(f"unknown config key {key!r}{_did_you_mean(key, hints)}")
    return kind(**{key: _coerce(key, settings[key], hints[key]) for key in settings})


def from_record(settings: Mapping[str, Any]) -> Config:
    """The settings of a run's ``config.json``, of whichever kind the run was."""
    return from_mapping(settings, kind_of(settings))


def _coerce(key: str, setting: Any, hint: Any) -> Any:
    """``setting`` as the type that ``Config`` declares, or a UserError."""
    if setting is None and key in _MEANING_OF_NONE:
        return _MEANING_OF_NONE[key]
    if typing.get_origin(hint) is typing.Literal:
        hint = str
    # The abstract kinds have NumPy's numbers too, as a sweep may well be made of.
    if hint is float and _is_number(setting, numbers.Real):
        return float(setting)
    if hint is int and _is_number(setting, numbers.Integral):
        return int(setting)
    if typing.get_origin(hint) is tuple:
        if isinstance(setting, list | tuple) and all(
            _is_number(item, numbers.Integral) for item in setting
        ):
            return tuple(int(item) for item in setting)
        raise UserError(f"config.{key} is {setting!r}; it must be a tuple of integers")
    if type(setting) is not hint:
        raise UserError(
            f"config.{key} is {setting!r}, a {type(setting).__name__}; it must be a {hint.__name__}"
        )
    return setting


def _is_number(setting: Any, kind: type) -> bool:
    return isinstance(setting, kind) and not isinstance(setting, bool)


# The official configs write None for "no decay", "no dropout" and "all of the dataset".
_MEANING_OF_NONE: dict[str, Any] = {
    "opt_decay_schedule": "none",
    "dropout_rate": 0.0,
    "init_dataset_size": 0,
}


def _did_you_mean(word: str, candidates: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(str(word), list(candidates), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
