"""Sweeps: the members of a population, from a config and what they override in it.

A sweep file defines ``get_sweep()``, which returns a grid (key -> the values it takes) or a list of
overrides (key -> its value, for each member). Keys are the config's.
"""

import dataclasses
import itertools
import math
import re
import runpy
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from iql_jax.algorithm import Hyperparameters
from iql_jax.data.config import DATA_KEYS
from iql_jax.outputs.folder import FREE_ON_RESUME
from iql_jax.training.config import Config, from_mapping
from iql_jax.utils.errors import UserError, one_line

MAX_MEMBERS = 10_000

# The keys in which members of one population may differ, beside those of their data: the seed, and
# the numbers that the update takes as traced leaves. All others make another program.
TRACED = (
    "seed",
    "opt_decay_schedule",  # Traced as the number of updates over which it decays, or infinity.
    *(Config.__dataclass_fields__.keys() & Hyperparameters.__dataclass_fields__.keys()),
)

_NOT_SWEPT = ("num_seeds", *FREE_ON_RESUME)  # These belong to the command, not to a member.

Overrides = dict[str, Any]
Layout = Callable[[Config], Hashable]


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """One run of a population."""

    name: str  # Of its folder, below the population's.
    config: Config  # The settings of the same run on its own.
    setting: Overrides  # The swept values, without the seed.


def read_sweep(path: Path) -> list[Overrides]:
    """Returns the overrides of each member, from a sweep file's ``get_sweep()``."""
    try:
        sweep = runpy.run_path(str(path))["get_sweep"]()
    # A sweep file is the user's own code: anything may come out of it.
    except (Exception, SystemExit) as error:
        raise UserError(f"--sweep {path} fails with {one_line(error)}") from error
    if isinstance(sweep, Mapping) and all(isinstance(v, list | tuple) for v in sweep.values()):
        _check_count(math.prod(map(len, sweep.values())))
        grid = itertools.product(*sweep.values())
        return [dict(zip(sweep, values, strict=True)) for values in grid]
    if isinstance(sweep, list | tuple) and all(isinstance(item, Mapping) for item in sweep):
        return [dict(item) for item in sweep]
    raise UserError(f"--sweep {path}: get_sweep() must return a dict of lists or a list of dicts")


def members_of(config: Config, sweep: Sequence[Overrides] = ({},)) -> list[Member]:
    """Returns the members: every override of the config, with every one of its seeds."""
    if not sweep:
        raise UserError("the sweep has no members")
    if config.video:
        raise UserError(
            "config.video films runs on their own; python -m iql_jax.evaluate --video films members"
        )
    _check_count(len(sweep) * config.num_seeds)
    base = {**dataclasses.asdict(config), "num_seeds": 1, "population_size": 0}
    members: list[Member] = []
    taken: dict[Config | str, str] = {}
    for overrides in sweep:
        if refused := [key for key in overrides if key in _NOT_SWEPT]:
            raise UserError(f"config.{refused[0]} is of the whole command and cannot be swept")
        first = from_mapping({**base, **overrides}, type(config))
        setting = {key: getattr(first, key) for key in overrides if key != "seed"}
        for seed in range(first.seed, first.seed + config.num_seeds):
            member = Member(
                name=_name({**setting, "seed": seed}),
                config=from_mapping({**base, **overrides, "seed": seed}, type(config)),
                setting=setting,
            )
            for key in (member.config, member.name):
                if key in taken:  # The same settings would count as two seeds.
                    names = f"{taken[key]} and {member.name}"
                    raise UserError(f"members of the sweep share settings or a folder: {names}")
                taken[key] = member.name
            members.append(member)
    return members


def populations(
    members: Sequence[Member], limit: int, layout: Layout | None = None
) -> list[list[Member]]:
    """Divides members into those that one program can train together, at most ``limit`` (0: all).

    ``layout`` returns the same for configs whose transitions have the same shapes; without it,
    members with different data never train together.
    """
    free = TRACED if layout is None else (*TRACED, *DATA_KEYS)
    groups: dict[Hashable, list[Member]] = {}
    for member in members:
        config = member.config
        fixed = [(k, v) for k, v in dataclasses.asdict(config).items() if k not in free]
        # Dropout rates may differ, but with none there is another program.
        structure = (*fixed, config.dropout_rate > 0, layout and layout(config))
        groups.setdefault(structure, []).append(member)
    size = limit or len(members)
    return [
        group[start : start + size]
        for group in groups.values()
        for start in range(0, len(group), size)
    ]


def _check_count(count: int) -> None:
    """Refuses more members than memory may hold, before they are made."""
    if count > MAX_MEMBERS:
        raise UserError(f"the sweep has too many members; at most {MAX_MEMBERS:,} are possible")


def _name(overrides: Overrides) -> str:
    """Returns a folder's name: keys and values, with the characters that a path may have."""
    parts = []
    for key, value in overrides.items():
        text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
        parts.append(f"{key}_{re.sub(r'[^A-Za-z0-9._-]', '-', text)}")
    return "-".join(parts)
