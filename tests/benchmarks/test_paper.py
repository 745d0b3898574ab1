"""Exact solutions beside the paper's figures, and the arithmetic of their tables."""

import numpy as np

import figure2
import umaze


def test_the_u_maze_by_hand():
    # To the right of the start, of four directions: up and left are walls.
    chances = umaze.PROBABILITIES[umaze.START, 1]
    assert chances[[umaze.START, umaze.START + 1]].tolist() == [2 * 0.0625, 0.75 + 0.0625]
    np.testing.assert_allclose(umaze.PROBABILITIES.sum(axis=2), 1)
    # Without a future, the chance of entering the goal, on the left, counts alone: times 10.
    beside = umaze.optimal_q(0.0)[umaze.GOAL + 1]
    np.testing.assert_allclose(beside, [0.625, 0.625, 0.625, 8.125])


def test_the_data_of_the_u_maze():
    data = umaze.dataset()
    ends = np.flatnonzero(data["next_action_masks"] == 0)
    assert len(ends) == 100
    np.testing.assert_array_equal(data["masks"], data["rewards"] != 10)
    assert data["rewards"][ends[0]] == 10  # The first episode is an optimal one.
    assert np.diff(ends).max() == umaze.TIME_LIMIT
    np.testing.assert_allclose(data["actions"][ends[0] + 1 :].mean(axis=0), 0.25, atol=0.03)
    inside = np.flatnonzero(data["next_action_masks"])
    for field, following in (("next_observations", "observations"), ("next_actions", "actions")):
        np.testing.assert_array_equal(data[field][inside], data[following][inside + 1])


def test_the_optimum_has_no_error():
    best = figure2.exact()
    row = figure2.row("optimal", best, best, best.values)
    assert row["mean_error_percent"] == 0.0
    assert row["success"] > 0.99
