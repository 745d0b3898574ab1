"""Scores of a population by setting: those of members that differ in their seeds alone."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from iql_jax.outputs.logs import read_table
from iql_jax.populations.sweep import Member, Overrides
from iql_jax.utils.arrays import Float64, Int64


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """Finished members that differ in their seeds alone.

    Attributes:
        values: The swept values that they share.
        steps: [U], the updates at which all were evaluated.
        scores: [K, U], of each seed.
    """

    values: Overrides
    steps: Int64
    scores: Float64

    @property
    def label(self) -> str:
        """The values in words."""
        return ", ".join(f"{key} {value}" for key, value in self.values.items())

    def interval(self) -> tuple[Float64, Float64]:
        """The ends [U] of the 95 % interval of the mean by Student's t.

        Two seeds give their range instead, for their interval is 13 times as wide; one its value.
        """
        num_seeds, mean = len(self.scores), self.scores.mean(axis=0)
        if num_seeds < 3:
            return self.scores.min(axis=0), self.scores.max(axis=0)
        half = scipy.stats.t.ppf(0.975, num_seeds - 1) * scipy.stats.sem(self.scores, axis=0)
        return mean - half, mean + half


def swept_keys(members: Sequence[Member]) -> list[str]:
    """The keys that any member overrides, in their order, without the seed."""
    return list(dict.fromkeys(key for member in members for key in member.setting))


def settings(workdir: Path, members: Sequence[Member], key: str) -> list[Setting]:
    """The finished members' evaluations of ``key``, an entry for each setting that has any."""
    swept = swept_keys(members)
    curves: dict[tuple[Any, ...], list[dict[int, float]]] = {}
    for member in members:
        evaluations = read_table(workdir / member.name / "evaluations.csv")
        if evaluations and (workdir / member.name / "summary.json").exists():
            values = tuple(getattr(member.config, name) for name in swept)
            curve = {int(row["update"]): row[key] for row in evaluations if row[key] is not None}
            curves.setdefault(values, []).append(curve)
    found = []
    for values, seeds in curves.items():
        if steps := sorted(set.intersection(*map(set, seeds))):
            scores = np.array([[curve[step] for step in steps] for curve in seeds])
            found.append(Setting(dict(zip(swept, values, strict=True)), np.array(steps), scores))
    return found
