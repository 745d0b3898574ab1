"""Flags, a picture and its table, for the scripts of this folder."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#2b2d42"


def parser(doc: str | None, updates: int) -> argparse.ArgumentParser:
    """Returns a parser with --out and --updates, of a script with this docstring."""
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
    lines = [",".join(rows[0]), *(",".join(map(cell, row.values())) for row in rows)]
    print(*lines, sep="\n")
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.csv").write_text("\n".join([*lines, ""]))
    figure.savefig(out / f"{name}.png")


def cell(value: Any) -> str:
    """Returns a value of the table as text, numbers to four digits."""
    return f"{value:z.4f}" if isinstance(value, float) else str(value)
