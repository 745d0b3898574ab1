"""Exact solutions beside the paper's figures, and the arithmetic of their tables."""

import math

import numpy as np
import pytest

import exhibit
import extrapolation
import figure1
import figure2
import figure3


def test_cells_of_a_table():
    shown = [exhibit.cell(value) for value in (math.nan, -1e-9, 0.12345, 3)]
    assert shown == ["nan", "0.0000", "0.1235", "3"]


@pytest.mark.parametrize(("expectile", "known"), [(0.5, 0.0), (0.9, 0.8616), (0.1, -0.8616)])
def test_expectiles_of_a_normal(expectile, known):
    assert figure1.exact_expectile(expectile) == pytest.approx(known, abs=1e-3)
    found = figure1.minimized_expectile(expectile, figure1.normal_sample(20_000))
    assert float(found) == pytest.approx(known, abs=2e-3)


def test_the_optimal_value_of_the_line():
    # At the origin 1 forever; from 0.15 first 0.95, then 1 forever.
    assert extrapolation.optimal_mean(np.zeros(3)) == pytest.approx(20, abs=1e-6)
    assert extrapolation.optimal_mean(np.array([0.15])) == pytest.approx(0.95 + 19, abs=1e-3)


def test_the_optimum_has_no_error():
    best = figure2.exact()
    row = figure2.row("optimal", best, best, best.values > 0)
    assert row["mean_error_percent"] == 0.0
    assert row["success"] > 0.99


def test_rows_by_expectile():
    members = [
        {"expectile": "0.9", "status": "finished", "score": "80.0"},
        {"expectile": "0.9", "status": "finished", "score": "100.0"},
        {"expectile": "0.95", "status": "failed", "score": ""},
    ]
    found = figure3.scores(members)
    assert found == {0.9: [80.0, 100.0]}
    row = figure3.row(0.9, found[0.9])
    assert (row["success"], row["low"], row["high"]) == (90.0, 80.0, 100.0)  # Two seeds' range.
    assert figure3.row(0.9, [80.0, 90.0, 100.0])["low"] == pytest.approx(65.16, abs=0.01)
