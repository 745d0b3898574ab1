"""Scores over seeds, in words: means, intervals, tables."""

import numpy as np
import pytest

import reports
from iql_jax.populations.scores import spread


def test_the_interval_is_students_and_cut():
    # t = 4.3027 with two degrees of freedom; standard error 10 / sqrt(3).
    assert spread(np.array([40.0, 50.0, 60.0]), reports.SUCCESS) == pytest.approx(
        (25.159, 74.841), abs=1e-3
    )
    assert spread(np.array([80.0, 90.0, 100.0]), reports.SUCCESS) == pytest.approx(
        (65.159, 100), abs=1e-3
    )
    assert reports.interval_text(np.array([40.0, 50.0, 60.0])) == "25.2 to 74.8"
    assert reports.interval_text(np.array([80.0, 90.0, 100.0])) == "65.2 to 100.0"
    # That of two is 13 times as wide as they are apart.
    assert reports.interval_text(np.array([80.0, 90.0])) == reports.NOT_RUN
    # Equal seeds say nothing of their spread, the less so at the end of the scale.
    assert reports.interval_text(np.array([100.0, 100.0, 100.0])) == reports.NOT_RUN


def test_numbers_in_tables():
    assert reports.mean_std(np.array([40.0, 50.0, 60.0])) == "50.0 ± 10.0"
    assert reports.mean_std(np.array([40.0])) == "40.0"
    assert reports.mean_std(np.array([])) == reports.interval_text(np.array([])) == reports.NOT_RUN
    assert reports.interval_text(np.array([40.0])) == reports.NOT_RUN
    assert reports.markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_normalised_scores_have_no_bounds():
    scores = np.array([-0.2, 0.1, 0.4])  # Standard error 0.3 / sqrt(3).
    assert spread(scores, reports.UNBOUNDED) == pytest.approx((-0.6452, 0.8452), abs=1e-4)
    assert reports.interval_text(scores, reports.UNBOUNDED) == "-0.6 to 0.8"
    assert reports.each(scores, digits=1) == "-0.2, 0.1, 0.4"
