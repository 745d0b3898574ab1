"""Pictures of a population: its mean curves with their intervals, and the score by swept value."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from iql_jax.outputs.plots import ACCENT, DPI, INK, MUTED, save, tidy
from iql_jax.populations.scores import Setting

_BAND = 0.18  # Opacity of an interval.


def curves(path: Path, settings: Sequence[Setting], label: str, title: str) -> None:
    """Draw the mean over seeds of each setting's evaluations, with its interval."""
    figure = Figure(figsize=(6.4 + (2.4 if len(settings) > 1 else 0), 3.8), dpi=DPI)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    colours: Any = [ACCENT]
    if len(settings) > 1:
        colours = mpl.colormaps["viridis"](np.linspace(0.0, 0.9, len(settings)))
    for setting, colour in zip(settings, colours, strict=True):
        low, high = setting.interval()
        axes.fill_between(setting.steps, low, high, color=colour, alpha=_BAND, linewidth=0)
        axes.plot(
            setting.steps,
            setting.scores.mean(axis=0),
            color=colour,
            linewidth=2,
            marker="o",
            markersize=4 if len(setting.steps) <= 40 else 0,
            label=f"{setting.label} ({len(setting.scores)})".strip(),
        )
    axes.set_xlabel("updates", color=INK)
    axes.set_ylabel(_with_interval(label, settings), color=INK)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_title(title, loc="left", color=INK, fontsize=11, pad=10)
    axes.set_xlim(left=0)
    tidy(axes)
    if len(settings) > 1:
        figure.legend(
            loc="outside right upper", frameon=False, labelcolor=INK, fontsize=8,
            title="setting (seeds)", title_fontsize=8,
        )  # fmt: skip
    save(figure, path)


def sweep(path: Path, settings: Sequence[Setting], label: str, title: str) -> None:
    """Draw the last evaluation by swept value.

    One swept key is an axis, two are the sides of a grid; of more, each setting is a line of a
    ranking.
    """
    keys = [
        key
        for key in settings[0].values
        if len({str(setting.values[key]) for setting in settings}) > 1
    ]
    ranked = len(keys) > 2
    height = max(3.8, 0.28 * len(settings) + 1.2) if ranked else 3.8
    figure = Figure(figsize=(8.0 if ranked else 6.4, height), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(f"{title}: last evaluation", loc="left", color=INK, fontsize=11, pad=10)
    if len(keys) == 2:
        _grid(figure, axes, settings, keys, label)
    elif ranked:
        _ranking(axes, settings, keys, label)
    else:
        _line(axes, settings, keys[0], label)
    save(figure, path)


def _line(axes: Axes, settings: Sequence[Setting], key: str, label: str) -> None:
    places = np.arange(len(settings))
    last = [setting.scores[:, -1] for setting in settings]
    means = np.array([scores.mean() for scores in last])
    bounds = np.array([[side[-1] for side in setting.interval()] for setting in settings]).T
    axes.errorbar(
        places, means, np.abs(bounds - means), color=ACCENT, marker="o", linewidth=2, capsize=4
    )
    for place, scores in zip(places, last, strict=True):
        axes.plot(np.full(len(scores), place), scores, ".", color=MUTED, zorder=1)
    axes.set_xticks(places, [str(setting.values[key]) for setting in settings])
    axes.set_xlabel(key, color=INK)
    axes.set_ylabel(_with_interval(label, settings), color=INK)
    tidy(axes)


def _grid(
    figure: Figure, axes: Axes, settings: Sequence[Setting], keys: Sequence[str], label: str
) -> None:
    sides = [list(dict.fromkeys(str(setting.values[key]) for setting in settings)) for key in keys]
    means = np.full((len(sides[0]), len(sides[1])), np.nan)
    for setting in settings:
        place = tuple(
            side.index(str(setting.values[key])) for side, key in zip(sides, keys, strict=True)
        )
        means[place] = setting.scores[:, -1].mean()
    image = axes.imshow(np.ma.masked_invalid(means), cmap="viridis", aspect="auto", origin="lower")
    middle = (np.nanmin(means) + np.nanmax(means)) / 2
    for (row, column), mean in np.ndenumerate(means):
        if np.isfinite(mean):
            colour = INK if mean > middle else "white"
            axes.text(column, row, f"{mean:.1f}", ha="center", va="center", color=colour)
    axes.set_yticks(range(len(sides[0])), sides[0])
    axes.set_xticks(range(len(sides[1])), sides[1])
    axes.set_ylabel(keys[0], color=INK)
    axes.set_xlabel(keys[1], color=INK)
    axes.tick_params(colors=MUTED, labelcolor=INK, length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes)
    bar.set_label(f"{label}, mean over seeds", color=INK)
    bar.outline.set_visible(False)


def _ranking(axes: Axes, settings: Sequence[Setting], keys: Sequence[str], label: str) -> None:
    ranked = sorted(settings, key=lambda setting: float(setting.scores[:, -1].mean()))
    means = np.array([setting.scores[:, -1].mean() for setting in ranked])
    bounds = np.array([[side[-1] for side in setting.interval()] for setting in ranked]).T
    places = np.arange(len(ranked))
    axes.errorbar(means, places, xerr=np.abs(bounds - means), fmt="o", color=ACCENT, capsize=3)
    labels = [", ".join(f"{key} {setting.values[key]}" for key in keys) for setting in ranked]
    axes.set_yticks(places, labels, fontsize=8)
    axes.set_xlabel(_with_interval(label, settings), color=INK)
    tidy(axes)


def _with_interval(label: str, settings: Sequence[Setting]) -> str:
    """An axis' label, with what ``Setting.interval`` is for these numbers of seeds."""
    num_seeds = {len(setting.scores) for setting in settings}
    parts = ["range of 2 seeds"] if 2 in num_seeds else []
    parts += ["95 % interval (Student's t)"] if max(num_seeds) > 2 else []
    return ", ".join([label if num_seeds == {1} else f"{label}: mean", *parts])
