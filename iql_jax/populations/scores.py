"""Scores of a population by setting: of members that differ in their seeds alone."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.stats

from iql_jax.outputs.logs import Row, read_table
from iql_jax.populations.sweep import Member, Overrides

FloatArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """Finished members that differ in their seeds alone.

    Attributes:
        values: The swept values that they share.
        steps: [U], the updates at which all were evaluated.
        scores: [K, U], of each seed.
        bounds: Between what scores lie.
    """

    values: Overrides
    steps: npt.NDArray[np.int64]
    scores: FloatArray
    bounds: tuple[float, float] = (-math.inf, math.inf)

    @property
    def label(self) -> str:
        """The values in words."""
        return ", ".join(f"{key} {value}" for key, value in self.values.items())

    def interval(self) -> tuple[FloatArray, FloatArray]:
        """What tells of the spread over seeds, see ``spread``; [U] and [U]."""
        return spread(self.scores, self.bounds)


def spread(scores: FloatArray, bounds: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """The 95 % interval of the mean of scores [K, ...] over K seeds, cut to the bounds.

    Of two seeds it is their range, for the interval of two is 13 times as wide; of one its value.
    """
    if len(scores) < 3:
        return scores.min(axis=0), scores.max(axis=0)
    low, high = student_interval(scores)
    return np.clip(low, *bounds), np.clip(high, *bounds)


def student_interval(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The 95 % interval by Student's t of the mean of values [K, ...] over K seeds.

    Both ends have the shape [...]; of one seed they are its value.
    """
    mean, num_seeds = values.mean(axis=0), len(values)
    if num_seeds < 2:
        return mean, mean
    error = values.std(axis=0, ddof=1) / math.sqrt(num_seeds)
    half = scipy.stats.t.ppf(0.975, num_seeds - 1) * error
    return mean - half, mean + half


def swept_keys(members: Sequence[Member]) -> list[str]:
    """The keys that any member overrides, in their order; the seed is not one of them."""
    return list(dict.fromkeys(key for member in members for key in member.setting))


def settings(workdir: Path, members: Sequence[Member], key: str) -> list[Setting]:
    """The finished members' evaluations, one entry for those that differ in their seeds alone."""
    swept = swept_keys(members)
    tables: dict[str, list[Mapping[int, float]]] = {}
    bounds: dict[str, tuple[float, float]] = {}
    for member in members:
        values = {name: getattr(member.config, name) for name in swept}
        evaluations = read_table(workdir / member.name / "evaluations.csv")
        if evaluations and (workdir / member.name / "summary.json").exists():
            curve = {int(row["update"]): row[key] for row in evaluations if row[key] is not None}
            tables.setdefault(json.dumps(values), []).append(curve)
            bounds[json.dumps(values)] = _bounds(evaluations, key)
    found = []
    for text, curves in tables.items():
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        scores = np.array([[curve[step] for step in steps] for curve in curves])
        if steps:
            found.append(Setting(json.loads(text), np.array(steps), scores, bounds[text]))
    return found


def _bounds(evaluations: Sequence[Row], key: str) -> tuple[float, float]:
    """Between what these scores lie: those that are success rates have bounds."""
    unbounded = (-math.inf, math.inf)
    for row in evaluations:
        score, success = row[key], row.get("success_rate")
        if key != "score" or score is None or success is None:
            return unbounded
        if not math.isclose(score, 100 * success):
            return unbounded
    return (0.0, 100.0)
