"""Exact solutions beside the paper's figures, and the arithmetic of their tables."""

import math

import numpy as np
import pytest

import exhibit
import extrapolation
import figure1
import figure2


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
