"""Medians over repeats, with their range, for tables of speed; needs nothing but Python."""

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], form: str) -> str:
    """Median and range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def ratio(rates: Sequence[float], others: Sequence[float]) -> str:
    """Median and range of the ratios within each repeat: a machine's speed drifts between them."""
    return spread([rate / other for rate, other in zip(rates, others, strict=True)], ".2f")
