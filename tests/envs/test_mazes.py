"""The geometry against values worked out by hand and against gymnasium_robotics itself."""

import numpy as np
import pytest
from gymnasium_robotics.envs.maze import maps
from gymnasium_robotics.envs.maze.maze_v4 import Maze

from iql_jax.envs.mazes import MazeMap, at_goal
from iql_jax.utils.errors import UserError

# 3 rows, 4 columns: not square, so that rows and columns cannot be exchanged unnoticed.
CELLS = [[1, "r", 0, 1], [1, 1, "c", 1], [1, "g", 0, 1]]
MAZE = MazeMap.from_lists(CELLS, scaling=4)


def test_free_space():
    assert MAZE.extent == (-8.0, 8.0, -6.0, 6.0)
    xy = np.array([[[-2.0, 4.0], [-6.0, 4.0]], [[100.0, 0.0], [2.0, -100.0]]])
    np.testing.assert_array_equal(MAZE.is_free(xy), [[True, False], [False, False]])
    assert MAZE.share_in_walls(xy) == 0.75
    np.testing.assert_array_equal(MAZE.free_cells(), [[0, 1], [0, 2], [1, 2], [2, 1], [2, 2]])


@pytest.mark.parametrize("scaling", [1.0, 4.0])
@pytest.mark.parametrize("cells", [maps.U_MAZE, maps.LARGE_MAZE_DIVERSE_GR])
def test_it_agrees_with_gymnasium_robotics(cells, scaling):
    reference, maze = Maze(cells, scaling, 0.5), MazeMap.from_lists(cells, scaling)
    every_cell = np.indices(maze.shape).reshape(2, -1).T
    centers = [reference.cell_rowcol_to_xy(cell) for cell in every_cell]
    np.testing.assert_array_equal(maze.cell_to_xy(every_cell), centers)
    np.testing.assert_array_equal(maze.xy_to_cell(centers), every_cell)
    positions = np.random.default_rng(0).uniform(-30, 30, size=(200, 2))
    expected = [reference.cell_xy_to_rowcol(xy) for xy in positions]
    np.testing.assert_array_equal(maze.xy_to_cell(positions), expected)


@pytest.mark.parametrize("cells", [[], [[]], [[1, 0], [1]], [[1, "x"]], [[1, 2]], [1, 0]])
def test_malformed_maps_are_refused(cells):
    with pytest.raises(UserError, match="maze map"):
        MazeMap.from_lists(cells, 1)


def test_the_goal_has_a_radius():
    positions = np.array([[1.0, 2.44], [1.0, 2.46], [1.45, 2.0], [1.4, 2.4]])
    assert at_goal(positions, np.array([1.0, 2.0])).tolist() == [True, False, True, False]
    goals = np.array([[1.0, 2.0], [1.0, 2.1], [5.0, 2.0], [1.4, 2.4]])
    assert at_goal(positions, goals).tolist() == [True, True, False, True]
