"""Ways through a maze: for every cell the next one on a shortest path to a goal."""

import numpy as np
import numpy.typing as npt

from iql_jax.envs.mazes import MazeMap
from iql_jax.utils.arrays import Float64

_MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
"""Rows and columns of the moves up, down, left and right."""


class MazePlanner:
    """Plans on the cells of one maze.

    The planner has no memory: a waypoint depends on the position and the goal alone. From any point
    of a cell the straight line to any point of the next one crosses no wall, because two cells that
    share an open side form a rectangle; hence waypoints may be followed from wherever the agent is.

    ``distances`` [rows, columns, rows, columns] are moves to a goal's cell (first two axes) from a
    cell (last two), infinite where no path leads; ``next_cells`` [..., 2] the cells to go to.
    The goal's cell, and those that no path joins to it, lead to themselves. Walls lead where the
    nearest free cell does, so that an agent pressed into a wall still finds out. Of several
    shortest paths the first in the order up, down, left, right is taken.
    """

    def __init__(self, maze: MazeMap) -> None:
        self.maze = maze
        free = maze.free_cells()
        cells = np.moveaxis(np.indices(maze.shape), 0, -1)
        offsets = cells[:, :, None] - free
        self._nearest_free = free[np.argmin((offsets**2).sum(axis=-1), axis=-1)]

        distances = np.full((*maze.shape, *maze.shape), np.inf)
        for row, column in free:
            distances[row, column, row, column] = 0
        for _ in free:
            longer = 1 + _neighbors(distances).min(axis=0)
            distances = np.where(maze.walls, np.inf, np.minimum(distances, longer))
        following = cells + _MOVES[_neighbors(distances).argmin(axis=0)]
        stays = (distances == 0) | np.isinf(distances)
        following = np.where(stays[..., None], cells, following)
        rows, columns = np.moveaxis(self._nearest_free, -1, 0)
        self.distances = distances
        self.next_cells = following[:, :, rows, columns]

    def waypoint_table(self, goal: npt.ArrayLike) -> Float64:
        """Returns where to head from each cell, [rows, columns, 2] meters, to reach a goal.

        That is the center of the next cell, or the goal itself where that cell is the goal's.

        Args:
            goal: [2] meters. One inside a wall counts as lying in the nearest free cell.
        """
        row, column = np.clip(self.maze.xy_to_cell(goal), 0, np.array(self.maze.shape) - 1)
        cell = self._nearest_free[row, column]
        following = self.next_cells[tuple(cell)]
        last = np.all(following == cell, axis=-1, keepdims=True)
        return np.where(last, goal, self.maze.cell_to_xy(following))


def _neighbors(grids: Float64) -> Float64:
    """Returns the numbers of the cells above, below, left and right; infinite outside the maze."""
    edges = [(0, 0)] * (grids.ndim - 2) + [(1, 1)] * 2
    padded = np.pad(grids, edges, constant_values=np.inf)
    rows, columns = grids.shape[-2:]
    moved = [padded[..., 1 + i : 1 + i + rows, 1 + j : 1 + j + columns] for i, j in _MOVES]
    return np.stack(moved)
