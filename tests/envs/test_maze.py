"""The geometry against values worked out by hand and against gymnasium_robotics itself."""

import numpy as np
import pytest
from gymnasium_robotics.envs.maze import maps
from gymnasium_robotics.envs.maze.maze_v4 import Maze

from iql_jax.envs.mazes import MazeMap, at_goal
from iql_jax.utils.errors import UserError

# 3 rows, 4 columns: not square, so that rows and columns cannot be exchanged unnoticed.
CELLS: list[list[int | str]] = [
    [1, "r", 0, 1],
    [1, 1, "c", 1],
    [1, "g", 0, 1],
]


@pytest.fixture
def maze() -> MazeMap:
    return MazeMap.from_lists(CELLS, scaling=4)


def test_cell_centres_by_hand(maze: MazeMap) -> None:
    # Four columns of 4 m span x from -8 to 8; three rows span y from 6 (top) to -6.
    np.testing.assert_array_equal(maze.cell_to_xy([0, 1]), [-2.0, 4.0])
    np.testing.assert_array_equal(maze.cell_to_xy([[2, 3], [1, 0]]), [[6.0, -4.0], [-6.0, 0.0]])
    assert maze.extent == (-8.0, 8.0, -6.0, 6.0)
    assert maze.shape == (3, 4)


def test_positions_to_cells_by_hand(maze: MazeMap) -> None:
    xy = [[-3.9, 5.9], [0.1, -0.1], [-8.1, 0.0], [0.0, 6.1]]
    np.testing.assert_array_equal(maze.xy_to_cell(xy), [[0, 1], [1, 2], [1, -1], [-1, 2]])


def test_free_space(maze: MazeMap) -> None:
    xy = np.array([[[-2.0, 4.0], [-6.0, 4.0]], [[100.0, 0.0], [2.0, -100.0]]])
    np.testing.assert_array_equal(maze.is_free(xy), [[True, False], [False, False]])
    np.testing.assert_array_equal(maze.free_cells(), [[0, 1], [0, 2], [1, 2], [2, 1], [2, 2]])
    assert maze.is_free_cell(0, 1)
    assert not maze.is_free_cell(0, 0)
    assert not maze.is_free_cell(-1, 1)
    assert not maze.is_free_cell(0, 4)


def test_marks(maze: MazeMap) -> None:
    np.testing.assert_array_equal(maze.marked("g"), [[1, 2], [2, 1]])
    np.testing.assert_array_equal(maze.marked("r"), [[0, 1], [1, 2]])
    assert MazeMap.from_lists([[0]], 1).marked("g").shape == (0, 2)


@pytest.mark.parametrize("scaling", [1.0, 4.0])
@pytest.mark.parametrize("cells", [maps.U_MAZE, maps.MEDIUM_MAZE, maps.LARGE_MAZE_DIVERSE_GR])
def test_agrees_with_gymnasium_robotics(cells: list, scaling: float) -> None:
    reference = Maze(cells, scaling, 0.5)
    maze = MazeMap.from_lists(cells, scaling)
    rows, columns = np.indices(maze.shape).reshape(2, -1)
    every_cell = np.stack([rows, columns], axis=-1)
    centres = maze.cell_to_xy(every_cell)
    for cell, xy in zip(every_cell, centres, strict=True):
        np.testing.assert_array_equal(xy, reference.cell_rowcol_to_xy(cell))
    rng = np.random.default_rng(0)
    positions = rng.uniform(-30, 30, size=(200, 2))
    expected = [reference.cell_xy_to_rowcol(xy) for xy in positions]
    np.testing.assert_array_equal(maze.xy_to_cell(positions), expected)


def test_round_trip_and_hash(maze: MazeMap) -> None:
    cells = maze.free_cells()
    np.testing.assert_array_equal(maze.xy_to_cell(maze.cell_to_xy(cells)), cells)
    assert hash(maze) == hash(MazeMap.from_lists(CELLS, scaling=4))


@pytest.mark.parametrize("cells", [[], [[]], [[1, 0], [1]], [[1, "x"]], [[1, 2]]])
def test_malformed_maps_are_refused(cells: list) -> None:
    with pytest.raises(UserError, match="maze map"):
        MazeMap.from_lists(cells, 1)


def test_scaling_must_be_positive() -> None:
    with pytest.raises(UserError, match="scaling"):
        MazeMap.from_lists([[0]], 0)


def test_what_lies_within_the_radius_of_a_goal() -> None:
    positions = np.array([[1.0, 2.44], [1.0, 2.46], [1.45, 2.0], [1.4, 2.4]])
    assert at_goal(positions, np.array([1.0, 2.0])).tolist() == [True, False, True, False]
    goals = np.array([[1.0, 2.0], [1.0, 2.1], [5.0, 2.0], [1.4, 2.4]])
    assert at_goal(positions, goals).tolist() == [True, True, False, True]


def test_the_share_in_walls(maze: MazeMap) -> None:
    # Of the cells (0, 1) and (1, 2), which are free, a wall, and what lies outside.
    positions = maze.cell_to_xy([[0, 1], [1, 2], [1, 0], [7, 7]])
    assert maze.share_in_walls(positions) == 0.5
