"""Plots: what is drawn and where."""

import numpy as np
import pytest

from iql_jax.envs.mazes import MazeMap
from iql_jax.outputs import plots

MAZE = MazeMap.from_lists(
    [[1, 1, 1, 1, 1], [1, "g", 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], 1
)
BIN = 1 / plots.BINS_PER_CELL


def row(update, score, return_mean=0.0):
    return {"update": update, "score": score, "return_mean": return_mean, "success_rate": None}


@pytest.fixture
def figures(monkeypatch):
    """The figures that would have been saved."""
    saved = []
    monkeypatch.setattr(plots, "save", lambda figure, path: saved.append(figure))
    return saved


def test_bins_hold_the_means_of_their_values_and_are_blank_without():
    # Two positions in the bin right above and right of the origin, one in the bin left of it.
    positions = [[0.01, 0.01], [0.12, 0.12], [-0.01, 0.05], [100.0, 0.0]]
    x_edges, y_edges, mean = plots.bin_values(MAZE, positions, [1.0, 4.0, -3.0, 9.0])
    assert mean.shape == (40, 40)
    np.testing.assert_allclose(x_edges, np.arange(-20, 21) * BIN)
    np.testing.assert_allclose(y_edges, np.arange(-20, 21) * BIN)
    assert mean.count() == 2  # The position outside the maze is left out.
    assert mean[20, 20] == 2.5
    assert mean[20, 19] == -3.0


@pytest.mark.parametrize(
    ("rows", "xy", "label", "last"),
    [
        (
            [row(0, 0.0), row(1000, None), row(2000, 40.0), row(3000, 87.26)],
            [[0, 0], [2000, 40], [3000, 87.26]],  # A score of 0 is a score.
            "success (%)",
            "87.3",
        ),
        (
            [row(10, None, 5.0), row(20, None, 2999.6)],
            [[10, 5], [20, 2999.6]],
            "mean return",
            "3000",
        ),
    ],
)
def test_the_learning_curve_shows_scores_or_else_returns(figures, tmp_path, rows, xy, label, last):
    plots.learning_curve(tmp_path / "x.png", rows, "success (%)", "some/dataset-v0")
    (axes,) = figures[0].axes
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), xy)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("updates", label)
    assert axes.get_title(loc="left") == "some/dataset-v0"
    assert [text.get_text().strip() for text in axes.texts] == [last]
    assert axes.get_xlim()[0] == 0


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_value_map_draws_each_thing_where_it_belongs(figures, tmp_path):
    positions = MAZE.cell_to_xy(MAZE.free_cells())
    values, data = np.arange(len(positions)), [positions[:3], positions[3:]]
    for goal in (positions[0], None):
        plots.value_map(
            tmp_path / "x.png", MAZE, positions, values, data, [positions[::-1]], goal, "title"
        )
    axes, without_goal = (figure.axes[0] for figure in figures)
    drawn = [line.get_xydata() for line in axes.lines if len(line.get_xydata())]
    expected = [positions[:3], positions[3:], positions[::-1], positions[-1:], positions[:1]]
    assert len(drawn) == len(expected)
    for line, path in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(line, path)
    assert labels(axes) == ["data", "policy", "start", "goal"]
    assert labels(without_goal) == ["data", "policy", "start"]
    # Free cells span -1.5 to 1.5 m; a quarter of a cell of wall is shown around them.
    assert axes.get_xlim() == axes.get_ylim() == (-1.75, 1.75)
    walls = axes.images[0].get_array()[..., 3]
    np.testing.assert_array_equal(walls == 1, MAZE.walls)
