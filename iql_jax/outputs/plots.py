"""Plots of a run, drawn without pyplot: nothing global, no display needed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import EngFormatter

from iql_jax.envs.mazes import MazeMap
from iql_jax.utils.arrays import Float64
from iql_jax.utils.files import atomic_path

Style = dict[str, Any]

BINS_PER_CELL = 8

INK = "#2b2d42"
MUTED = "#8d99ae"
ACCENT = "#1f6f8b"
FLOOR = "#eef0f3"
_POLICY = "#ff4d5a"
_GOAL = "#ffd23f"
DPI = 160
_MAP_WIDTH = 6.0  # Inches.
_TITLE: Style = {"loc": "left", "color": INK, "fontsize": 12, "fontweight": "bold", "pad": 9}


def learning_curve(
    path: Path,
    evaluations: Sequence[Mapping[str, Any]],
    score_name: str,
    title: str,
    boundary: int | None = None,
) -> None:
    """Draws the scores of a run over its steps, or its mean returns where no row has a score.

    The step is the first column. ``boundary`` is where fine-tuning started; None in an offline run.
    """
    scored = any(row.get("score") is not None for row in evaluations)
    key, label = ("score", score_name) if scored else ("return_mean", "mean return")
    if not (rows := [row for row in evaluations if row.get(key) is not None]):
        return  # The columns of a damaged table may have other names.
    steps = np.array([float(next(iter(row.values()))) for row in rows])
    values = np.array([float(row[key]) for row in rows])

    figure, axes = curve_figure(title)
    dots = 4 if len(rows) <= 40 else 0
    axes.plot(steps, values, "o-", color=ACCENT, linewidth=2, markersize=dots, zorder=3)
    axes.plot(steps[-1:], values[-1:], "o", color=ACCENT, markersize=7, zorder=4)
    last = f"  {values[-1]:.1f}" if abs(values[-1]) < 1000 else f"  {values[-1]:.0f}"
    axes.text(steps[-1], values[-1], last, va="center", color=ACCENT, fontweight="bold")
    axes.margins(x=0.03, y=0.12)
    label_curve(axes, "updates" if boundary is None else "steps", label)
    if boundary:  # At 0 there is no phase before it.
        axes.axvline(boundary, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=2)
        below = axes.get_xaxis_transform()  # Curves end up high: the room is below.
        for text, side in (("offline updates  ", "right"), ("  environment steps", "left")):
            axes.text(boundary, 0.02, text, transform=below, ha=side, color=MUTED, fontsize=9)
    save(figure, path)


def curve_figure(title: str) -> tuple[Figure, Axes]:
    """Returns a figure with a title, and its axes."""
    figure = Figure(figsize=(6.4, 3.8), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, **_TITLE)
    return figure, axes


def label_curve(axes: Axes, steps: str, label: str) -> None:
    """Names both axes of a curve over steps, which starts at 0, and tidies them."""
    axes.set_xlabel(steps, color=INK)
    axes.set_ylabel(label, color=INK)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(left=0)
    tidy(axes)


def tidy(axes: Axes) -> None:
    """Gives the axes of a curve their grid, spines and colors."""
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelcolor=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)


def value_map(
    path: Path,
    maze_map: MazeMap,
    positions: npt.ArrayLike,  # [K, 2] meters.
    values: npt.ArrayLike,  # [K], V there.
    data_paths: Sequence[npt.ArrayLike],  # [T, 2] each.
    policy_paths: Sequence[npt.ArrayLike],
    goal: npt.ArrayLike | None,  # [2]; None where there is no one goal.
    title: str,
) -> None:
    """Draws V over a maze, with some of the data's paths and the policy's.

    A bin (an eighth of a cell wide) shows the mean of V over the positions in it. Bins without
    positions stay blank: nothing is interpolated, least of all through walls.
    """
    # Shown are the free cells and a rim of wall: half a cell of floor, a quarter of wall.
    corners, rim = maze_map.cell_to_xy(maze_map.free_cells()), 0.75 * maze_map.scaling
    (xmin, ymin), (xmax, ymax) = corners.min(axis=0) - rim, corners.max(axis=0) + rim
    # Beside the map: the color bar; above and below: the title and the legend.
    size = (_MAP_WIDTH + 0.9, _MAP_WIDTH * (ymax - ymin) / (xmax - xmin) + 0.75)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor(FLOOR)
    x_edges, y_edges, mean = bin_values(maze_map, positions, values)
    mesh = axes.pcolormesh(x_edges, y_edges, mean, cmap="viridis", zorder=1, rasterized=True)
    walls = np.zeros((*maze_map.shape, 4))
    walls[maze_map.walls] = to_rgba(INK)
    axes.imshow(walls, extent=maze_map.extent, interpolation="nearest", zorder=2)
    _draw_paths(axes, data_paths, policy_paths)
    if goal is not None:
        star: Style = {"color": _GOAL, "markeredgecolor": INK}
        axes.plot(*np.reshape(goal, (2, 1)), "*", **star, markersize=20, zorder=6)
        axes.plot([], [], "*", **star, markersize=13, label="goal")  # Smaller in the legend.

    axes.set(xlim=(xmin, xmax), ylim=(ymin, ymax), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(title, **_TITLE)
    legend: Style = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.005), "ncols": 4}
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**legend, frameon=False, labelcolor=INK, fontsize=9)
    bar = figure.colorbar(mesh, cax=axes.inset_axes((1.02, 0, 0.03, 1)))
    bar.set_label("V(s)", color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, labelcolor=INK, length=3)
    save(figure, path)


def bin_values(
    maze_map: MazeMap, positions: npt.ArrayLike, values: npt.ArrayLike
) -> tuple[Float64, Float64, np.ma.MaskedArray[Any, Any]]:
    """Averages values [K] at positions [K, 2], in meters, over the square bins of a maze.

    Returns the bins' rising edges along x and y, and the means [y bins, x bins], masked where no
    position is. Positions outside the maze are left out.
    """
    xy = np.asarray(positions, dtype=np.float64).reshape(-1, 2)
    rows, columns = maze_map.shape
    xmin, xmax, ymin, ymax = maze_map.extent
    x_edges = np.linspace(xmin, xmax, columns * BINS_PER_CELL + 1)
    y_edges = np.linspace(ymin, ymax, rows * BINS_PER_CELL + 1)
    weights, edges = np.asarray(values, dtype=np.float64), [y_edges, x_edges]
    counts = np.histogram2d(xy[:, 1], xy[:, 0], edges)[0]
    sums = np.histogram2d(xy[:, 1], xy[:, 0], edges, weights=weights)[0]
    return x_edges, y_edges, np.ma.masked_array(sums / np.maximum(counts, 1), counts == 0)


def _draw_paths(
    axes: Axes, data_paths: Sequence[npt.ArrayLike], policy_paths: Sequence[npt.ArrayLike]
) -> None:
    for data_path in data_paths:
        axes.plot(*np.asarray(data_path).T, color="white", alpha=0.35, linewidth=0.7, zorder=3)
    if data_paths:  # White would not show in the legend.
        axes.plot([], [], color=MUTED, linewidth=1, label="data")
    outlined = [Stroke(linewidth=3.6, foreground="white"), Normal()]
    for i, policy_path in enumerate(policy_paths):
        label = "policy" if i == 0 else None
        line: Style = {"color": _POLICY, "linewidth": 2.2, "path_effects": outlined}
        axes.plot(*np.asarray(policy_path).T, **line, zorder=4, label=label)
    if policy_paths:
        starts = np.array([np.asarray(policy_path)[0] for policy_path in policy_paths])
        dot: Style = {"color": "white", "markeredgecolor": _POLICY, "markeredgewidth": 2}
        axes.plot(*starts.T, "o", **dot, markersize=8, zorder=5, label="start")


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png")
