"""Learning curves of several tasks in one picture: mean and spread over seeds."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

import reports
import runs as bench
from iql_jax.outputs import plots
from iql_jax.populations import scores as population_scores

INTERVAL = "95 % interval over seeds"
RANGE = "lowest to highest seed (fewer than 3)"

_COLUMNS = 3
_PANEL = (3.1, 2.5)  # Inches.
_ONLY_PANEL = (6.4, 3.2)
_MARGIN = 2.0  # Beyond a success of 0 and of 100 %, so that a line there is seen whole.


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One task.

    Attributes:
        title: its name.
        steps: [U], where it was evaluated: updates, or the steps of fine-tuning.
        scores: [K, U], of each seed.
        dashed: labels and scores of flat lines to compare with, such as another method's.
        dotted: labels and scores of numbers from elsewhere.
        boundary: the step at which fine-tuning began; None for offline runs.
        bounds: between what the scores lie: success rates, or normalised returns.
    """

    title: str
    steps: npt.NDArray[np.int64]
    scores: reports.FloatArray
    dashed: Sequence[tuple[str, float]] = ()
    dotted: Sequence[tuple[str, float]] = ()
    boundary: int | None = None
    bounds: reports.Bounds = reports.SUCCESS


def curve(seeds: Sequence[bench.Run]) -> tuple[npt.NDArray[np.int64], reports.FloatArray]:
    """The evaluations of finished runs where all of them have one.

    Returns:
        The steps [U] and each run's scores there [K, U].
    """
    finished = [run for run in seeds if run.summary() is not None]
    tables = [{bench.step_of(row): row["score"] for row in run.evaluations()} for run in finished]
    common = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    scores = [[table[step] for step in common] for table in tables]
    return np.array(common, np.int64), np.array(scores, np.float64).reshape(
        len(tables), len(common)
    )


def spread(
    scores: reports.FloatArray, bounds: reports.Bounds = reports.SUCCESS
) -> tuple[reports.FloatArray, reports.FloatArray, str]:
    """What is shaded around the mean of scores [K, U]: lower and upper bounds [U], and its name.

    From three seeds on the 95 % interval of the mean; for fewer their range, for one empty.
    """
    return *population_scores.spread(scores, bounds), RANGE if len(scores) < 3 else INTERVAL


def draw(path: Path, panels: Sequence[Panel], method: str) -> None:
    """Draw one panel for each task.

    Args:
        path: where the PNG is written.
        panels: the tasks that were run.
        method: whose curves they are.
    """
    success = [panel.bounds == reports.SUCCESS for panel in panels]
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width, height = _ONLY_PANEL if len(panels) == 1 else _PANEL
    figure = Figure(
        figsize=(columns * width, rows * height + 0.8), dpi=plots.DPI, layout="constrained"
    )
    grid = list(figure.subplots(rows, columns, sharey=all(success), squeeze=False).flat)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles: dict[str, Artist] = {}
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel, method)
        labelled = axes.get_legend_handles_labels()[0]
        handles |= {str(artist.get_label()): artist for artist in labelled}
    label = "success (%)" if all(success) else "score"
    figure.supylabel(label, color=plots.INK, fontsize=10)
    figure.legend(
        handles=list(handles.values()),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        labelcolor=plots.INK,
        fontsize=9,
    )
    plots.save(figure, path)


def _draw_panel(axes: Axes, panel: Panel, method: str) -> None:
    mean, num_seeds = panel.scores.mean(axis=0), len(panel.scores)
    axes.plot(
        panel.steps, mean, color=plots.ACCENT, linewidth=2, label=f"{method}, mean over seeds"
    )
    axes.plot(panel.steps[-1:], mean[-1:], "o", color=plots.ACCENT, markersize=5)
    if num_seeds > 1:
        low, high, name = spread(panel.scores, panel.bounds)
        axes.fill_between(
            panel.steps, low, high, color=plots.ACCENT, alpha=0.18, linewidth=0, label=name
        )
    for i, (label, score) in enumerate(panel.dashed):
        dashes = (0, (5, 2)) if i == 0 else (0, (5, 2, 1, 2))
        axes.axhline(score, color=plots.INK, linewidth=1.2, linestyle=dashes, label=label)
    for i, (label, score) in enumerate(panel.dotted):
        dots = (0, (1, 1.5)) if i == 0 else (0, (1, 4))
        axes.axhline(score, color=plots.MUTED, linewidth=1.2, linestyle=dots, label=label)
    seeds = "1 seed" if num_seeds == 1 else f"{num_seeds} seeds"
    title = f"{panel.title} ({seeds})"
    axes.set_title(title, loc="left", color=plots.INK, fontsize=10, fontweight="bold")
    if panel.boundary is not None:
        plots.mark_boundary(axes, panel.boundary, names=("offline", "online"))
    label = "updates" if panel.boundary is None else "updates, then environment steps"
    axes.set_xlabel(label, color=plots.INK, fontsize=9)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlim(left=0)
    if panel.bounds == reports.SUCCESS:
        axes.set_ylim(panel.bounds[0] - _MARGIN, panel.bounds[1] + _MARGIN)
    plots.tidy(axes)
