"""Pictures: what is drawn, where, and that files appear whole or not at all."""

import subprocess
import sys

import matplotlib.figure
import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

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


def test_bins_have_y_first_and_rising():
    _, y_edges, mean = plots.bin_values(MAZE, [[-0.9, 1.4]], [7.0])
    j, i = np.argwhere(~mean.mask)[0]
    assert y_edges[j] < 1.4 < y_edges[j + 1]
    assert i < 20 < j


def test_bins_scale_with_the_maze():
    ant_maze = MazeMap.from_lists(MAZE.cells, 4)
    x_edges, _, mean = plots.bin_values(ant_maze, [[0.01, 0.01], [0.49, 0.49]], [1.0, 3.0])
    assert x_edges[1] - x_edges[0] == pytest.approx(0.5)
    assert mean[20, 20] == 2.0


def test_values_must_go_with_positions():
    with pytest.raises(ValueError, match="2 positions need as many values"):
        plots.bin_values(MAZE, np.zeros((2, 2)), np.zeros(3))


def test_the_learning_curve_shows_scores_over_updates(figures, tmp_path):
    rows = [row(0, 5.0), row(1000, None), row(2000, 40.0), row(3000, 87.26)]
    plots.learning_curve(tmp_path / "x.png", rows, "success rate (%)", "some/dataset-v0")
    (axes,) = figures[0].axes
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[0, 5], [2000, 40], [3000, 87.26]])
    assert axes.get_ylabel() == "success rate (%)"
    assert axes.get_title(loc="left") == "some/dataset-v0"
    assert [text.get_text() for text in axes.texts] == ["87.3"]
    assert axes.get_xlim()[0] == 0


def test_without_any_score_the_learning_curve_shows_returns(figures, tmp_path):
    rows = [row(1000, None, 1500.0), row(2000, None, 2999.6)]
    plots.learning_curve(tmp_path / "x.png", rows, "normalized score", "some/dataset-v0")
    (axes,) = figures[0].axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1500.0, 2999.6])
    assert axes.get_ylabel() == "mean return"
    assert [text.get_text() for text in axes.texts] == ["3000"]


def test_a_score_of_zero_is_a_score(figures, tmp_path):
    plots.learning_curve(tmp_path / "x.png", [row(10, 0.0, 99.0)], "score", "title")
    (axes,) = figures[0].axes
    assert axes.lines[0].get_ydata() == [0.0]
    assert axes.get_ylabel() == "score"


def test_the_boundary_between_two_phases_is_marked(figures, tmp_path):
    rows = [{"step": step, "score": step / 100} for step in (1000, 2000, 3000, 5000)]
    plots.learning_curve(tmp_path / "x.png", rows, "success (%)", "title", boundary=2000)
    (axes,) = figures[0].axes
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1000, 2000, 3000, 5000])
    assert axes.get_xlabel() == "steps"
    (boundary,) = [line for line in axes.lines if set(line.get_xdata()) == {2000}]
    assert boundary.get_linestyle() == "--"
    words = {text.get_text(): text for text in axes.texts}
    assert {"offline updates", "environment steps"} < set(words)
    assert words["offline updates"].get_ha() == "right"
    assert words["environment steps"].get_ha() == "left"
    assert all(words[side].xy[0] == 2000 for side in ("offline updates", "environment steps"))


def test_without_a_phase_before_it_there_is_no_boundary_to_mark(figures, tmp_path):
    rows = [{"step": step, "score": 1.0} for step in (0, 1000)]
    plots.learning_curve(tmp_path / "x.png", rows, "success (%)", "title", boundary=0)
    (axes,) = figures[0].axes
    assert axes.get_xlabel() == "steps"
    assert [text.get_text() for text in axes.texts] == ["1.0"]


def test_without_a_boundary_steps_are_updates(figures, tmp_path):
    plots.learning_curve(tmp_path / "x.png", [row(10, 1.0)], "score", "title")
    (axes,) = figures[0].axes
    assert axes.get_xlabel() == "updates"
    assert [text.get_text() for text in axes.texts] == ["1.0"]


def test_a_learning_curve_needs_evaluations(tmp_path):
    with pytest.raises(ValueError, match="no evaluations"):
        plots.learning_curve(tmp_path / "x.png", [], "score", "title")


def draw_map(path, **changes):
    positions = MAZE.cell_to_xy(MAZE.free_cells())
    arguments = {
        "maze_map": MAZE,
        "positions": positions,
        "values": np.arange(len(positions)),
        "data_paths": [positions[:3], positions[3:]],
        "policy_paths": [positions[::-1]],
        "goal": positions[0],
        "title": "title",
    }
    plots.value_map(path, **{**arguments, **changes})
    return positions


def test_the_value_map_draws_each_thing_where_it_belongs(figures, tmp_path):
    positions = draw_map(tmp_path / "x.png")
    axes = figures[0].axes[0]
    drawn = [line.get_xydata() for line in axes.lines if len(line.get_xydata())]
    expected = [positions[:3], positions[3:], positions[::-1], positions[-1:], positions[:1]]
    assert len(drawn) == len(expected)
    for line, path in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(line, path)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["data", "policy", "start", "goal"]
    # Free cells span -1.5 to 1.5 m; a quarter of a cell of wall is shown around them.
    assert axes.get_xlim() == axes.get_ylim() == (-1.75, 1.75)
    walls = axes.images[0].get_array()[..., 3]
    np.testing.assert_array_equal(walls == 1, MAZE.walls)


def test_the_value_map_draws_no_goal_where_there_is_none(figures, tmp_path):
    draw_map(tmp_path / "x.png", goal=None, policy_paths=[[[0.0, 1.0], [1.0, 1.0]]])
    axes = figures[0].axes[0]
    assert axes.lines[-1].get_xydata().tolist() == [[0.0, 1.0]]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["data", "policy", "start"]


def test_files_are_pictures_with_the_walls_the_floor_and_the_values(tmp_path):
    path = tmp_path / "new folder" / "map.png"
    draw_map(path, data_paths=[], policy_paths=[], goal=None)
    plots.learning_curve(path.with_name("curve.png"), [row(10, 1.0)], "score", "title")
    assert sorted(p.name for p in path.parent.iterdir()) == ["curve.png", "map.png"]
    pixels = matplotlib.image.imread(path)[..., :3].reshape(-1, 3)
    # Of the 3.5 x 3.5 m shown, 7 m^2 are free, and a bin of each of the 7 cells has a value.
    count = {
        name: np.isclose(pixels, to_rgb(color), atol=0.01).all(axis=1).sum()
        for name, color in (("wall", plots.INK), ("floor", plots._FLOOR))
    }
    assert count["floor"] / count["wall"] == pytest.approx(
        7 * (1 - BIN**2) / (3.5**2 - 7), rel=0.05
    )


def test_a_picture_that_fails_leaves_the_older_one(tmp_path, monkeypatch):
    def fail(self, path, **kwargs):
        path.write_bytes(b"half a picture")
        raise OSError("disk full")

    path = tmp_path / "curve.png"
    path.write_bytes(b"older")
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        plots.learning_curve(path, [row(10, 1.0)], "score", "title")
    assert [p.name for p in tmp_path.iterdir()] == ["curve.png"]
    assert path.read_bytes() == b"older"


def test_pyplot_stays_out():
    code = "import sys, iql_jax.outputs.plots; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
