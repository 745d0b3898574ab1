"""Sweeps: the members of a population, from a config and what they override in it.

A sweep file defines ``get_sweep()``, which returns a grid (key -> the values it takes) or a list of
overrides (key -> its value, for each member). Keys are the config's.
"""

import dataclasses
import importlib.util
import itertools
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from iql_jax.algorithm.learner import Hyperparameters
from iql_jax.data.load import DATA_KEYS
from iql_jax.outputs.folder import FREE_ON_RESUME
from iql_jax.training.config import Config, from_mapping
from iql_jax.utils.errors import UserError

# What members of one population may differ in: the key they begin with, and the numbers that the
# update takes as traced leaves. Where members are updated at once, their data too. All else makes
# another program or another protocol.
TRACED = (
    "seed",
    "opt_decay_schedule",  # By the updates that it takes, which may be infinitely many.
    *(
        field.name
        for field in dataclasses.fields(Config)
        if field.name in Hyperparameters.__dataclass_fields__
    ),
)

# Of the command, not of a member.
_NOT_SWEPT = ("num_seeds", *FREE_ON_RESUME)

Overrides = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """One run of a population.

    Attributes:
        name: Of its folder, below the population's.
        config: Its settings, those of a run on its own.
        overrides: What sets it apart: the swept keys in their order, and the seed.
    """

    name: str
    config: Config
    overrides: Overrides

    @property
    def setting(self) -> Overrides:
        """What it shares with the members that differ from it in their seeds alone."""
        return {key: value for key, value in self.overrides.items() if key != "seed"}


def read_sweep(path: Path) -> list[Overrides]:
    """What a sweep file's ``get_sweep()`` returns, as the overrides of each member.

    Raises:
        UserError: If there is no such file, it fails, or it returns something else.
    """
    spec = importlib.util.spec_from_file_location("sweep", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"--sweep {path} is not a Python file; see configs/sweeps/")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        sweep = module.get_sweep()
    # A sweep file is the user's own code: anything may come out of it.
    except Exception as error:
        if isinstance(error, AttributeError) and error.name == "get_sweep":
            raise UserError(f"--sweep {path} defines no get_sweep()") from error
        raise UserError(f"--sweep {path} fails with {type(error).__name__}: {error}") from error
    if isinstance(sweep, Mapping) and all(isinstance(v, list | tuple) for v in sweep.values()):
        return [
            dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())
        ]
    if isinstance(sweep, list | tuple) and all(isinstance(item, Mapping) for item in sweep):
        return [dict(item) for item in sweep]
    raise UserError(
        f"--sweep {path}: get_sweep() must return a grid, a dict of lists, or a list of dicts"
    )


def members_of(config: Config, sweep: Sequence[Overrides] = ({},)) -> list[Member]:
    """The members: every override of the config, with every one of its seeds.

    Raises:
        UserError: If there are none; if a key is unknown or not to be swept, a value wrong, or two
            members the same.
    """
    base = {**dataclasses.asdict(config), "num_seeds": 1, "population_size": 0}
    members: dict[str, Member] = {}
    names: dict[Config, str] = {}
    for overrides in sweep:
        for key in overrides:
            if key in _NOT_SWEPT:
                raise UserError(f"config.{key} is of the whole command and cannot be swept")
        first: Config = from_mapping({**base, **overrides})
        for seed in range(first.seed, first.seed + config.num_seeds):
            own: Config = from_mapping({**base, **overrides, "seed": seed})
            different = {key: getattr(own, key) for key in overrides if key != "seed"}
            member = Member(_name({**different, "seed": seed}), own, {**different, "seed": seed})
            if own in names:  # They would pass for two seeds.
                both = " and ".join(dict.fromkeys((names[own], member.name)))
                raise UserError(f"two members of the sweep are the same: {both}")
            if member.name in members:
                raise UserError(f"two members of the sweep would have one folder, {member.name}")
            members[member.name], names[own] = member, member.name
    if not members:
        raise UserError("the sweep has no members: get_sweep() returned nothing")
    return list(members.values())


def populations(
    members: Sequence[Member],
    limit: int,
    layout: Callable[[Config], Hashable] | None = None,
) -> list[list[Member]]:
    """Members that one program can train together.

    Args:
        members: All.
        limit: How many train together at most; 0 for no limit.
        layout: Equal for configs whose transitions have the same shapes; their members may train
            together. None: those with different data never do.
    """
    groups: dict[Hashable, list[Member]] = {}
    for member in members:
        shapes = None if layout is None else layout(member.config)
        structure = _structure(member.config, TRACED if layout is None else (*TRACED, *DATA_KEYS))
        groups.setdefault((structure, shapes), []).append(member)
    return [
        group[start : start + (limit or len(group))]
        for group in groups.values()
        for start in range(0, len(group), limit or len(group))
    ]


def _structure(config: Config, free: Sequence[str]) -> Config:
    """The settings without those that are free; whether there is dropout at all is not."""
    fields = {field.name: field.default for field in dataclasses.fields(Config)}
    common: dict[str, Any] = {key: fields[key] for key in free}
    common["dropout_rate"] = 0.5 if config.dropout_rate > 0 else 0.0
    if "dataset" in free:
        common["dataset"] = "any"  # A config has one.
    return dataclasses.replace(config, **common)


def _name(overrides: Overrides) -> str:
    """A folder's name: keys and values, with the characters that a path may have."""
    parts = []
    for key, value in overrides.items():
        text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
        parts.append(f"{key}_{re.sub(r'[^A-Za-z0-9._-]', '-', text)}")
    return "-".join(parts)
