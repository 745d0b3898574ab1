"""The tables of runs, as tests compare them."""

import csv

from common.runs import TIMED


def untimed_rows(path):
    """The rows of a table, their cells as text, without the columns of time."""
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]
