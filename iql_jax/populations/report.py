"""The report of a whole population: ``members.csv``, its learning curves, the sweep's picture."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from iql_jax.outputs.logs import Row, read_table
from iql_jax.populations import plots
from iql_jax.populations.folder import FAILURE
from iql_jax.populations.scores import settings, swept_keys
from iql_jax.populations.sweep import Member
from iql_jax.utils.files import atomic_path


def write(workdir: Path, members: Sequence[Member]) -> list[Row]:
    """Write the table, draw the pictures of what is finished, and return the table's rows."""
    table = rows(workdir, members)
    with (
        atomic_path(workdir / "members.csv") as partial,
        partial.open("w", newline="") as file,
    ):
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
    failure = folder / FAILURE
    reason = json.loads(failure.read_text())["reason"] if failure.exists() else None
    status = "finished" if (folder / "summary.json").exists() else "unfinished"
    outcome: Row = {"status": status if reason is None else "failed"}
    evaluations = read_table(folder / "evaluations.csv")
    for name, best in (("score", "best_score"), ("return_mean", "best_return")):
        numbers = [row[name] for row in evaluations if row[name] is not None]
        outcome[name] = numbers[-1] if numbers else None
        outcome[best] = max(numbers, default=None)
    return {**outcome, "failure": reason}
