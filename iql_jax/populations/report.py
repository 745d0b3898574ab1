"""The report of a whole population: ``members.csv``, its learning curves, the sweep's plot."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iql_jax.outputs.logs import Row, read_table
from iql_jax.populations import plots
from iql_jax.populations.folder import read_failure
from iql_jax.populations.sweep import Member
from iql_jax.utils.files import atomic_path


def write(workdir: Path, members: Sequence[Member]) -> list[Row]:
    """Writes the table, draws the plots of what is finished, and returns the table's rows."""
    table = rows(workdir, members)
    with atomic_path(workdir / "members.csv") as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    scored = any(row["score"] is not None for row in table)
    key, label = ("score", "score") if scored else ("return_mean", "mean return")
    if found := settings(workdir, members, key):
        datasets = {member.config.dataset for member in members}
        of = datasets.pop() if len(datasets) == 1 else f"{len(datasets)} datasets"
        finished = sum(row["status"] == "finished" for row in table)
        title = f"{of}, {finished} of {len(table)} members"
        plots.curves(workdir / "learning_curve.png", found, label, title)
        plots.sweep(workdir / "sweep.png", found, label, title)
    return table


def rows(workdir: Path, members: Sequence[Member]) -> list[Row]:
    """Returns a row per member: its swept values, how it ended, its last and best evaluation."""
    swept = _swept_keys(members)
    return [
        {
            "member": member.name,
            **{key: getattr(member.config, key) for key in swept},
            "seed": member.config.seed,
            **_outcome(workdir / member.name),
        }
        for member in members
    ]


def settings(workdir: Path, members: Sequence[Member], key: str) -> list[plots.Setting]:
    """Returns the finished members' evaluations of ``key``, by setting."""
    swept = _swept_keys(members)
    curves: dict[tuple[Any, ...], list[dict[int, float]]] = {}
    most = np.inf
    for member in members:
        if (workdir / member.name / "summary.json").exists():
            values = tuple(getattr(member.config, name) for name in swept)
            evaluations = read_table(workdir / member.name / "evaluations.csv")
            curve = {
                int(row["update"]): row[key] for row in evaluations if row.get(key) is not None
            }
            curves.setdefault(values, []).append(curve)
            if key == "score" and any(row["success_rate"] is not None for row in evaluations):
                most = 100.0
    found = []
    for values, seeds in curves.items():
        if steps := sorted(set.intersection(*map(set, seeds))):
            scores = np.array([[curve[step] for step in steps] for curve in seeds])
            shared = dict(zip(swept, values, strict=True))
            found.append(plots.Setting(shared, np.array(steps), scores, most))
    return found


def _swept_keys(members: Sequence[Member]) -> list[str]:
    """Returns the keys that any member overrides, in their order, without the seed."""
    return list(dict.fromkeys(key for member in members for key in member.setting))


def _outcome(folder: Path) -> Row:
    failure = read_failure(folder)
    reason = None if failure is None else failure["reason"]
    status = "finished" if (folder / "summary.json").exists() else "unfinished"
    outcome: Row = {"status": status if reason is None else "failed"}
    evaluations = read_table(folder / "evaluations.csv")
    for name, best in (("score", "best_score"), ("return_mean", "best_return")):
        numbers = [row[name] for row in evaluations if row.get(name) is not None]
        outcome[name] = numbers[-1] if numbers else None
        outcome[best] = max(numbers, default=None)
    return {**outcome, "failure": reason}
