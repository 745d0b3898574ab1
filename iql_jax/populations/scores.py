"""Scores of a population by setting: those of members that differ in their seeds alone."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.stats

from iql_jax.outputs.logs import Row, read_table
from iql_jax.populations.sweep import Member, Overrides
from iql_jax.utils.arrays import Float64, Int64

UNBOUNDED = (-math.inf, math.inf)


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """Finished members that differ in their seeds alone.

    Attributes:
        values: The swept values that they share.
        steps: [U], the updates at which all were evaluated.
        scores: [K, U], of each seed.
        bounds: The lowest and the highest possible score.
    """

    values: Overrides
    steps: Int64
    scores: Float64
    bounds: tuple[float, float] = UNBOUNDED

    @property
    def label(self) -> str:
        """The values in words."""
        return ", ".join(f"{key} {value}" for key, value in self.values.items())

    def interval(self) -> tuple[Float64, Float64]:
        """The ends [U] of the 95 % interval of the mean by Student's t, cut to the bounds.

        Two seeds give their range instead, for their interval is 13 times as wide; one its value.
        """
        num_seeds, mean = len(self.scores), self.scores.mean(axis=0)
        if num_seeds < 3:
            return self.scores.min(axis=0), self.scores.max(axis=0)
        half = scipy.stats.t.ppf(0.975, num_seeds - 1) * scipy.stats.sem(self.scores, axis=0)
        return np.clip(mean - half, *self.bounds), np.clip(mean + half, *self.bounds)


def swept_keys(members: Sequence[Member]) -> list[str]:
    """The keys that any member overrides, in their order, without the seed."""
    return list(dict.fromkeys(key for member in members for key in member.setting))


def settings(workdir: Path, members: Sequence[Member], key: str) -> list[Setting]:
    """The finished members' evaluations of ``key``, an entry for each setting that has any."""
    swept = swept_keys(members)
    tables: dict[str, list[list[Row]]] = {}
    for member in members:
        evaluations = read_table(workdir / member.name / "evaluations.csv")
        if evaluations and (workdir / member.name / "summary.json").exists():
            values = {name: getattr(member.config, name) for name in swept}
            tables.setdefault(json.dumps(values), []).append(evaluations)
    found = [_setting(json.loads(values), seeds, key) for values, seeds in tables.items()]
    return [setting for setting in found if setting.steps.size]


def _setting(values: Overrides, seeds: Sequence[Sequence[Row]], key: str) -> Setting:
    """One setting, given the evaluations of each of its seeds."""
    curves = [
        {int(row["update"]): row[key] for row in rows if row[key] is not None} for rows in seeds
    ]
    steps = sorted(set.intersection(*map(set, curves)))
    scores = np.array([[curve[step] for step in steps] for curve in curves])
    is_rate = key == "score" and all(_is_success_rate(row) for rows in seeds for row in rows)
    return Setting(values, np.array(steps), scores, (0.0, 100.0) if is_rate else UNBOUNDED)


def _is_success_rate(row: Row) -> bool:
    score, success = row["score"], row["success_rate"]
    return None not in (score, success) and math.isclose(score, 100 * success)
