"""Plots of a population: learning curves with their intervals, and the score by swept value."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from iql_jax.outputs.plots import ACCENT, INK, MUTED, curve_figure, label_curve, save, tidy
from iql_jax.utils.arrays import Float64, Int64

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


def curves(path: Path, settings: Sequence[Setting], label: str, title: str) -> None:
    """Draws the mean over seeds of each setting's evaluations, with its interval."""
    figure, axes = curve_figure(title)
    colors: Any = mpl.colormaps["viridis"](np.linspace(0.0, 0.9, len(settings)))
    for setting, color in zip(settings, colors, strict=True):
        values = ", ".join(f"{key} {value}" for key, value in setting.values.items())
        axes.fill_between(setting.steps, *setting.interval(), color=color, alpha=0.18, linewidth=0)
        name = f"{values} ({len(setting.scores)})"
        axes.plot(setting.steps, setting.scores.mean(axis=0), ".-", color=color, label=name)
    label_curve(axes, "updates", f"{label}: {_INTERVAL}")
    if len(settings) > 1:
        figure.set_figwidth(8.8)
        figure.legend(loc="outside right upper", title="setting (seeds)", fontsize=8)
    save(figure, path)


def sweep(path: Path, settings: Sequence[Setting], label: str, title: str) -> None:
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
