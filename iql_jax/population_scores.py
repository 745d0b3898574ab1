"""Scores of a population by setting: of members that differ in their seeds alone."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.stats

from iql_jax.metrics import read_table
from iql_jax.sweep import Member, Overrides

FloatArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """Finished members that differ in their seeds alone.

    Attributes:
        values: The swept values that they share.
        steps: [U], the updates at which all were evaluated.
        scores: [K, U], of each seed.
    """

    values: Overrides
    steps: npt.NDArray[np.int64]
    scores: FloatArray

    @property
    def label(self) -> str:
        """The values in words."""
        return ", ".join(f"{key} {value}" for key, value in self.values.items())

    def interval(self) -> tuple[FloatArray, FloatArray]:
        """The 95 % interval of the mean at each evaluation, [U] and [U]; one seed has none."""
        return bootstrap(self.scores)


def bootstrap(scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The 95 % percentile bootstrap interval of the mean of scores [K, U] over K seeds."""
    if len(scores) < 2:
        return scores[0], scores[0]
    drawn = scipy.stats.bootstrap(
        (scores,), np.mean, axis=0, method="percentile", batch=500, rng=np.random.default_rng(0)
    )
    return drawn.confidence_interval.low, drawn.confidence_interval.high


def swept_keys(members: Sequence[Member]) -> list[str]:
    """The keys that any member overrides, in their order; the seed is not one of them."""
    return list(dict.fromkeys(key for member in members for key in member.setting))


def settings(workdir: Path, members: Sequence[Member], key: str) -> list[Setting]:
    """The finished members' evaluations, one entry for those that differ in their seeds alone."""
    swept = swept_keys(members)
    tables: dict[str, list[Mapping[int, float]]] = {}
    for member in members:
        values = {name: getattr(member.config, name) for name in swept}
        evaluations = read_table(workdir / member.name / "evaluations.csv")
        if evaluations and (workdir / member.name / "summary.json").exists():
            curve = {int(row["update"]): row[key] for row in evaluations if row[key] is not None}
            tables.setdefault(json.dumps(values), []).append(curve)
    found = []
    for text, curves in tables.items():
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        scores = np.array([[curve[step] for step in steps] for curve in curves])
        if steps:
            found.append(Setting(json.loads(text), np.array(steps), scores))
    return found
