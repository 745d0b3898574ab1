"""Flags, a picture and its table, for the scripts of this folder."""

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, ACCENT = "#2b2d42", "#8d99ae", "#1f6f8b"


def parser(doc: str | None, updates: int) -> argparse.ArgumentParser:
    """Returns a parser with --out and --updates.

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


def style(axes: Axes, title: str) -> None:
    """Gives a part of a picture its heading, grid and spines."""
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def publish(out: Path, name: str, figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the table, and writes NAME.png and NAME.csv to a folder."""
    shown = [{key: cell(value) for key, value in row.items()} for row in rows]
    print("\n".join("  ".join(row.values()) for row in shown))
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(shown[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(shown)
    figure.savefig(out / f"{name}.png")
    print(f"{out / name}.png, {out / name}.csv")


def cell(value: Any) -> str:
    """Returns a value of the table as text, numbers to four digits."""
    if not isinstance(value, float):
        return str(value)
    return f"{0.0 if abs(value) < 5e-5 else value:.4f}"  # No -0.0000.
