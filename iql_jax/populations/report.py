"""The report of a whole population: ``members.csv``, its learning curves, the sweep's plot."""

import csv
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from iql_jax.outputs.logs import Row, read_table
from iql_jax.outputs.plots import ACCENT, INK, MUTED, curve_figure, label_curve, save, tidy
from iql_jax.populations.folder import read_failure
from iql_jax.populations.sweep import Member
from iql_jax.training.config import FinetuneConfig
from iql_jax.utils.arrays import Float64, Int64
from iql_jax.utils.files import atomic_path

_INTERVAL = "mean, 95 % interval (two seeds: range)"


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """Finished members that differ in their seeds alone."""

    values: dict[str, Any]  # The swept values that they share.
    steps: Int64  # [U], the updates at which all were evaluated.
    scores: Float64  # [K, U], of each seed.
    most: float = np.inf  # The greatest possible score.

    def interval(self) -> tuple[Float64, Float64]:
        """Returns the ends [U] of the 95 % interval of the mean by Student's t.

        Two seeds give their range instead, for their interval is 13 times as wide; one its value.
        """
        num_seeds, mean = len(self.scores), self.scores.mean(axis=0)
        if num_seeds < 3:
            return self.scores.min(axis=0), self.scores.max(axis=0)
        import scipy.stats  # Half a second, which only this waits for.

        half = scipy.stats.t.ppf(0.975, num_seeds - 1) * scipy.stats.sem(self.scores, axis=0)
        return mean - half, np.minimum(mean + half, self.most)


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
        is_fine_tuning = isinstance(members[0].config, FinetuneConfig)
        steps = "steps" if is_fine_tuning else "updates"
        draw_curves(workdir / "learning_curve.png", found, steps, label, title)
        draw_sweep(workdir / "sweep.png", found, label, title)
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


def settings(workdir: Path, members: Sequence[Member], key: str) -> list[Setting]:
    """Returns the finished members' evaluations of ``key``, by setting."""
    swept = _swept_keys(members)
    curves: dict[tuple[Any, ...], list[dict[int, float]]] = {}
    seen: list[Row] = []
    for member in members:
        if (workdir / member.name / "summary.json").exists():
            values = tuple(getattr(member.config, name) for name in swept)
            evaluations = read_table(workdir / member.name / "evaluations.csv")
            # The first column counts updates, or fine-tuning's steps.
            curve = {
                int(next(iter(row.values()))): row[key]
                for row in evaluations
                if row.get(key) is not None
            }
            curves.setdefault(values, []).append(curve)
            seen += evaluations
    found, most = [], greatest_score(seen) if key == "score" else math.inf
    for values, seeds in curves.items():
        if steps := sorted(set.intersection(*map(set, seeds))):
            scores = np.array([[curve[step] for step in steps] for curve in seeds])
            shared = dict(zip(swept, values, strict=True))
            found.append(Setting(shared, np.array(steps), scores, most))
    return found


def greatest_score(evaluations: Sequence[Mapping[str, Any]]) -> float:
    """Returns 100 where the score in rows of evaluations.csv is the success rate, else infinity."""
    scored = [(row["score"], row.get("success_rate")) for row in evaluations]
    scored = [(score, rate) for score, rate in scored if score is not None]
    are_rates = [rate is not None and math.isclose(score, 100 * rate) for score, rate in scored]
    return 100.0 if are_rates and all(are_rates) else math.inf


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


def draw_curves(
    path: Path, settings: Sequence[Setting], steps: str, label: str, title: str
) -> None:
    """Draws the mean over seeds of each setting's evaluations, with its interval."""
    figure, axes = curve_figure(title)
    colors: Any = mpl.colormaps["viridis"](np.linspace(0.0, 0.9, len(settings)))
    for setting, color in zip(settings, colors, strict=True):
        values = ", ".join(f"{key} {value}" for key, value in setting.values.items())
        axes.fill_between(setting.steps, *setting.interval(), color=color, alpha=0.18, linewidth=0)
        name = f"{values} ({len(setting.scores)})"
        axes.plot(setting.steps, setting.scores.mean(axis=0), ".-", color=color, label=name)
    label_curve(axes, steps, f"{label}: {_INTERVAL}")
    if len(settings) > 1:
        figure.set_figwidth(8.8)
        figure.legend(loc="outside right upper", title="setting (seeds)", fontsize=8)
    save(figure, path)


def draw_sweep(path: Path, settings: Sequence[Setting], label: str, title: str) -> None:
    """Draws the last evaluation by swept value: a line over one swept key, a grid over two."""
    keys = [key for key in settings[0].values if len(_values(settings, key)) > 1]
    if len(keys) not in (1, 2):
        return
    figure, axes = curve_figure(f"{title}: last evaluation")
    (_line if len(keys) == 1 else _grid)(axes, settings, keys, label)
    save(figure, path)


def _values(settings: Sequence[Setting], key: str) -> list[str]:
    """Returns the values that a key takes, as text, in their order."""
    return list(dict.fromkeys(str(setting.values[key]) for setting in settings))


def _line(axes: Axes, settings: Sequence[Setting], keys: Sequence[str], label: str) -> None:
    means = np.array([setting.scores[:, -1].mean() for setting in settings])
    ends = np.array([[end[-1] for end in setting.interval()] for setting in settings]).T
    places = np.arange(len(settings))
    axes.errorbar(
        places, means, np.abs(ends - means), color=ACCENT, marker="o", linewidth=2, capsize=4
    )
    axes.set_xticks(places, [str(setting.values[keys[0]]) for setting in settings])
    axes.set_xlabel(keys[0], color=INK)
    axes.set_ylabel(f"{label}: {_INTERVAL}", color=INK)
    tidy(axes)


def _grid(axes: Axes, settings: Sequence[Setting], keys: Sequence[str], label: str) -> None:
    rows, columns = (_values(settings, key) for key in keys)
    means = np.full((len(rows), len(columns)), np.nan)
    for setting in settings:
        row, column = (str(setting.values[key]) for key in keys)
        means[rows.index(row), columns.index(column)] = setting.scores[:, -1].mean()
    axes.imshow(np.ma.masked_invalid(means), cmap="viridis", aspect="auto", origin="lower")
    middle = (np.nanmin(means) + np.nanmax(means)) / 2
    for (i, j), mean in np.ndenumerate(means):
        if np.isfinite(mean):
            color = INK if mean > middle else "white"
            axes.text(j, i, f"{mean:.1f}", ha="center", va="center", color=color)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_ylabel(keys[0], color=INK)
    axes.set_xlabel(f"{keys[1]} ({label}, mean over seeds)", color=INK)
    axes.tick_params(colors=MUTED, labelcolor=INK, length=0)
