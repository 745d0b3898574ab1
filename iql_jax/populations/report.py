"""What is told of a population as a whole: ``members.csv``, its curves, the sweep's picture."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from iql_jax.outputs.logs import Row, read_table
from iql_jax.populations import plots as population_plots
from iql_jax.populations.folder import FAILURE
from iql_jax.populations.scores import settings, swept_keys
from iql_jax.populations.sweep import Member
from iql_jax.utils.files import atomic_path


def write(workdir: Path, members: Sequence[Member]) -> list[Row]:
    """Write the table and draw the pictures of what is finished; returns the table's rows."""
    table = rows(workdir, members)
    with (
        atomic_path(workdir / "members.csv") as partial,
        partial.open("w", newline="") as file,
    ):
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    key = "score" if any(row["score"] is not None for row in table) else "return_mean"
    found = settings(workdir, members, key)
    if found:
        label = {"score": "score", "return_mean": "mean return"}[key]
        title = f"{_datasets(members)}, {_counted(table)}{_left_out(table, members, key)}"
        population_plots.curves(workdir / "learning_curve.png", found, label, title)
        if any(len({str(s.values[key]) for s in found}) > 1 for key in found[0].values):
            population_plots.sweep(workdir / "sweep.png", found, label, title)
    return table


def _datasets(members: Sequence[Member]) -> str:
    datasets = {member.config.dataset for member in members}
    return datasets.pop() if len(datasets) == 1 else f"{len(datasets)} datasets"


def _counted(table: Sequence[Row]) -> str:
    """How many members the pictures show, and what has become of the others."""
    finished, failed = (
        sum(row["status"] == status for row in table) for status in ("finished", "failed")
    )
    if finished == len(table):
        return f"{finished} members"
    return f"{finished} of {len(table)} members" + (f", {failed} failed" if failed else "")


def _left_out(table: Sequence[Row], members: Sequence[Member], key: str) -> str:
    """What the pictures do not show, for their titles."""
    swept = swept_keys(members)
    settings_without = {
        tuple(row[name] for name in swept)
        for row in table
        if row["status"] == "finished" and row[key] is None
    }
    if not settings_without:
        return ""
    plural = "s" if len(settings_without) > 1 else ""
    return f" ({len(settings_without)} setting{plural} without a {key} left out)"


def rows(workdir: Path, members: Sequence[Member]) -> list[Row]:
    """A row a member: what was swept, how it ended, its last and its best evaluation."""
    swept = swept_keys(members)
    return [
        {
            "member": member.name,
            **{key: getattr(member.config, key) for key in swept},
            "seed": member.config.seed,
            **_outcome(workdir / member.name),
        }
        for member in members
    ]


def _outcome(folder: Path) -> Row:
    """How a member ended."""
    evaluations = read_table(folder / "evaluations.csv")
    failure = folder / FAILURE
    status = "finished" if (folder / "summary.json").exists() else "unfinished"
    if failure.exists():
        status = "failed"
    outcome: Row = {"status": status}
    for name, label in (("score", "best_score"), ("return_mean", "best_return")):
        numbers = [row[name] for row in evaluations if row[name] is not None]
        outcome[name] = numbers[-1] if numbers else None
        outcome[label] = max(numbers) if numbers else None
    outcome["failure"] = json.loads(failure.read_text())["reason"] if failure.exists() else None
    return outcome
