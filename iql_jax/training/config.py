"""The settings of a run: the algorithm's, the data's and the run's own, each key once."""

import dataclasses
import difflib
import numbers
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

import ml_collections

from iql_jax.algorithm import NEEDS_NEXT_ACTIONS, AgentConfig
from iql_jax.data.config import DataConfig
from iql_jax.utils.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(AgentConfig, DataConfig):
    """Settings of an offline run. Intervals and budgets are counted in updates."""

    seed: Annotated[int, "in [0, 4294967296)"] = 42
    num_seeds: Annotated[int, "at least 1"] = 1  # From two on: a population, one run a seed.
    population_size: Annotated[int, "at least 0"] = 0  # Runs trained at once; 0: all that can be.

    eval_interval: Annotated[int, "at least 1"] = 5_000
    eval_episodes: Annotated[int, "at least 0"] = 10  # 0 trains without an environment.
    eval_processes: Annotated[int, "at least 0"] = 0  # Episodes run at once; 0: one a core.
    trust_environment: bool = False  # Build environments from namespaces not known to be safe.
    log_interval: Annotated[int, "at least 1"] = 1_000
    checkpoint_interval: Annotated[int, "at least 1"] = 50_000
    progress: bool = True
    wandb_project: str = ""  # Empty: no Weights & Biases.
    video: bool = False  # Film an episode of the last evaluation.

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except ValueError as error:
            raise UserError(f"config.{error}") from error
        if not self.dataset:
            raise UserError("config.dataset is empty; set it to a Minari dataset id or a file")

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain JSON types."""
        return _plain(dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig(Config):
    """Settings of fine-tuning: intervals count updates offline, then environment steps."""

    # Offline updates before the first environment step.
    num_pretraining_steps: Annotated[int, "at least 0"] = 1_000_000
    offline_run: str = ""  # Folder of a finished offline run that replaces the offline phase.
    max_steps: Annotated[int, "at least 1"] = 1_000_000  # Environment steps.
    # 'cosine' ends with the environment steps, and starts with this run: its offline phase, if any.
    opt_decay_schedule: typing.Literal["cosine", "none"] = "none"
    # Transitions of the dataset to use, drawn at random; 0 uses all.
    init_dataset_size: Annotated[int, "at least 0"] = 0
    # The dataset's and the environment's together.
    replay_buffer_size: Annotated[int, "at least 1"] = 2_000_000
    # Share of a batch that is the dataset's, to the nearest transition; -1: uniform over all.
    offline_ratio: Annotated[float, "in [-1, 1]"] = -1.0
    updates_per_step: Annotated[int, "at least 1"] = 1  # Updates for each environment step.
    num_envs: Annotated[int, "at least 1"] = 1  # Training environments stepped at once.
    # Environment steps before the first update of the second phase.
    start_steps: Annotated[int, "at least 0"] = 0

    @property
    def num_updates(self) -> int:
        """Updates of both phases; an offline run that replaces the first one counts none."""
        offline = 0 if self.offline_run else self.num_pretraining_steps
        # Environments step together: the last steps without updates may be a part of such a step.
        idle_steps = self.start_steps // self.num_envs * self.num_envs
        return offline + (self.max_steps - idle_steps) * self.updates_per_step

    @property
    def num_offline(self) -> int | None:
        """The dataset's share of a batch, in transitions; None where all are drawn alike."""
        return None if self.offline_ratio == -1 else round(self.offline_ratio * self.batch_size)

    def __post_init__(self) -> None:
        super().__post_init__()
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
        if -1 < self.offline_ratio < 0:
            raise UserError(
                f"config.offline_ratio is {self.offline_ratio}; it must be a share in [0, 1], "
                "or -1 to draw uniformly from dataset and environment together"
            )
        if 0 < self.offline_ratio < 1 and self.num_offline in (0, self.batch_size):
            raise UserError(
                f"config.offline_ratio is {self.offline_ratio}, which of config.batch_size "
                f"({self.batch_size}) comes to {self.num_offline}; set 0 or 1 if that is meant"
            )


Settings = TypeVar("Settings", bound=Config)


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a run record, with today's defaults of the keys that they lack."""
    return {**_plain(_defaults(kind_of(settings))), **settings}


def is_of_fine_tuning(key: str) -> bool:
    """Returns whether only fine-tuning has this key."""
    return key in _defaults(FinetuneConfig).keys() - _defaults(Config).keys()


def kind_of(settings: Mapping[str, Any]) -> type[Config]:
    """Returns the class of a mapping that has all keys of its kind of run."""
    return FinetuneConfig if "num_pretraining_steps" in settings else Config


def base_config() -> ml_collections.ConfigDict:
    """Returns the defaults of every key, for a config file to override a few of."""
    return ml_collections.ConfigDict(_defaults(Config))


def finetune_config(offline: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns an offline config with the defaults of the keys that ``FinetuneConfig`` declares."""
    default = _defaults(FinetuneConfig)
    own = {key: default[key] for key in FinetuneConfig.__annotations__}
    return ml_collections.ConfigDict({**offline.to_dict(), **own})


# mypy takes no default for a parameter whose type is a variable, though Config is one of its types.
def from_mapping(settings: Mapping[str, Any], kind: type[Settings] = Config) -> Settings:  # type: ignore[assignment]
    """Returns settings, any subset of the keys of ``kind``, after checking them.

    Integers are taken for floats, and lists for tuples.
    """
    hints = typing.get_type_hints(kind)
    for key in settings:
        if key not in hints and is_of_fine_tuning(key):
            raise UserError(f"config key {key!r} belongs to fine-tuning; use train_finetune.py")
        if key not in hints:
            raise UserError(f"unknown config key {key!r}{_did_you_mean(key, hints)}")
    return kind(**{key: _coerce(key, settings[key], hints[key]) for key in settings})


def from_record(settings: Mapping[str, Any]) -> Config:
    """Returns the settings in a run record, of whichever kind the run was."""
    return from_mapping(settings, kind_of(settings))


def _defaults(kind: type[Config]) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(kind)}


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: list(setting) if isinstance(setting, tuple) else setting
        for key, setting in settings.items()
    }


def _coerce(key: str, setting: Any, hint: Any) -> Any:
    """Returns ``setting`` as the declared type, or raises a UserError."""
    for item in setting if isinstance(setting, list | tuple) else [setting]:
        if isinstance(item, int) and abs(item) >= 2**63:
            raise UserError(f"config.{key} has a number of more than 64 bits")
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
    kind = str if typing.get_origin(hint) is typing.Literal else hint
    if type(setting) is not kind:
        raise UserError(
            f"config.{key} is {setting!r}, a {type(setting).__name__}; it must be a {kind.__name__}"
        )
    return setting


def _is_number(setting: Any, kind: type) -> bool:
    return isinstance(setting, kind) and not isinstance(setting, bool)


def _did_you_mean(word: str, candidates: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(str(word), list(candidates), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
