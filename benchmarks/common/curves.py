"""Learning curves of several tasks in one picture: the mean over seeds and its interval."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from common import published
from common.runs import Run
from iql_jax.populations.report import Setting, greatest_score

COLORS = ("#1f6f8b", "#8d99ae", "#2b2d42", "#e08e1b")
COLUMNS = 3


def common_steps(runs: Sequence[Run]) -> tuple[list[int], list[list[float]]]:
    """Returns the steps at which all runs were evaluated, [U], and each run's scores, [K][U]."""
    by_step = []
    for run in runs:
        rows = [(*row.values(), row["score"]) for row in run.table("evaluations")]
        by_step.append({int(row[0]): row[-1] for row in rows if row[0] and row[-1] is not None})
    steps = sorted(set.intersection(*map(set, by_step))) if by_step else []
    return steps, [[scores[step] for step in steps] for scores in by_step]


def draw(path: Path, tasks: Mapping[str, Mapping[str, Sequence[Run]]]) -> None:
    """Draws a panel for each task with a line for each method, of finished runs."""
    columns = min(COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.6 * rows + 0.5), dpi=110, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(tasks) :]:
        axes.set_visible(False)
    for axes, (task, methods) in zip(grid, tasks.items(), strict=False):
        for (method, runs), color in zip(methods.items(), COLORS, strict=False):
            draw_method(axes, method, runs, color)
        paper = published.OFFLINE.get(task, (None,))[0]
        if paper is not None:
            axes.axhline(paper, color="gray", linestyle=":", label="paper, D4RL's data")
        axes.set_title(task, loc="left", fontsize=10)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    figure.supxlabel("updates (and environment steps)", fontsize=9)
    figure.supylabel("score", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def draw_method(axes: Axes, method: str, runs: Sequence[Run], color: str) -> None:
    """Draws the mean over seeds, with the 95 % interval or, of two seeds, the range shaded."""
    steps, scores = common_steps(runs)
    if not steps:
        return
    array = np.array(scores)
    label = f"{method}, {len(runs)} seed{'s' if len(runs) > 1 else ''}"
    axes.plot(steps, array.mean(axis=0), color=color, marker="o", markersize=3, label=label)
    most = greatest_score(runs[0].table("evaluations"))
    low, high = Setting({}, np.array(steps), array, most).interval()
    axes.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0)
