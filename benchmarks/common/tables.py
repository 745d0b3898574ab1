"""Tables in markdown, and the statistics that they show."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.stats

SUCCESS = (0.0, 100.0)
UNBOUNDED = (-math.inf, math.inf)
"""The range of success rates, and of normalized returns."""

INTERVAL_NOTE = (
    "95 % interval: Student's t over seeds, within the range of scores; none for fewer than three "
    "seeds or equal ones."
)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in markdown."""
    lines = ["| " + " | ".join(line) + " |" for line in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def publish(text: str, out: Path | None) -> None:
    """Prints a report and, where a file is named, writes it."""
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(f"{text}\n")


def mean_std(scores: Sequence[float]) -> str:
    """Returns mean and standard deviation over seeds; one seed has no deviation."""
    if not scores:
        return "-"
    deviation = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    return f"{statistics.fmean(scores):.1f}{deviation}"


def interval(
    scores: Sequence[float], bounds: tuple[float, float] = UNBOUNDED
) -> tuple[float, float] | None:
    """Returns the 95 % interval of the mean over seeds, by Student's t, cut to the bounds.

    Two seeds have none, for theirs is 13 times as wide as their distance; nor have equal scores,
    which say nothing of their spread.
    """
    if len(scores) < 3 or len(set(scores)) == 1:
        return None
    error = scipy.stats.sem(scores)
    low, high = scipy.stats.t.interval(0.95, len(scores) - 1, np.mean(scores), error)
    return max(float(low), bounds[0]), min(float(high), bounds[1])


def interval_text(
    scores: Sequence[float], bounds: tuple[float, float] = UNBOUNDED, digits: int = 1
) -> str:
    """Returns the interval as a cell of a table."""
    found = interval(scores, bounds)
    return "-" if found is None else f"{found[0]:.{digits}f} to {found[1]:.{digits}f}"


def median_range(values: Sequence[float], form: str = ",.1f") -> str:
    """Returns the median over repeats, and their range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def ratio(rates: Sequence[float], others: Sequence[float]) -> str:
    """Returns median and range of the ratio within each repeat, for a machine's speed drifts."""
    return median_range([rate / other for rate, other in zip(rates, others, strict=True)], ".2f")
