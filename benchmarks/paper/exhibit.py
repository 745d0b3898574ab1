"""What the scripts of this folder share: where a picture goes, and the table that belongs to it."""

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iql_jax.outputs import plots

Row = Mapping[str, Any]


def parser(doc: str | None, updates: int) -> argparse.ArgumentParser:
    """The command line that all scripts have.

    Args:
        doc: the script's docstring.
        updates: the default of ``--updates``.
    """
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--out", type=Path, required=True, help="folder of the picture and the table")
    made.add_argument("--updates", type=int, default=updates, help=f"of each ({updates:,})")
    return made


def title(axes: Axes, text: str) -> None:
    """Give a part of a picture its heading."""
    axes.set_title(text, loc="left", color=plots.INK, fontsize=11, fontweight="bold")


def publish(out: Path, name: str, figure: Figure, rows: Sequence[Row]) -> None:
    """Print the table, and write NAME.png and NAME.csv.

    Args:
        out: the folder; made where it is missing.
        name: of the files.
        figure: the picture.
        rows: the table, with the same columns in each.
    """
    shown = [{key: _shown(value) for key, value in row.items()} for row in rows]
    widths = {key: max(len(key), *(len(row[key]) for row in shown)) for key in shown[0]}
    for row in [dict(zip(shown[0], shown[0], strict=True)), *shown]:
        print("  ".join(text.ljust(widths[key]) for key, text in row.items()).rstrip())
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(shown[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(shown)
    plots.save(figure, out / f"{name}.png")
    print(f"{out / name}.png, {out / name}.csv")


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{0.0 if abs(value) < 5e-5 else value:.4f}"  # No -0.0000.
