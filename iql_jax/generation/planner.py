"""Ways through a maze: for every cell the next one on a shortest path to a goal.

A maze is a deterministic shortest-path problem on its free cells, so breadth-first search from the
goal yields the optimal Q-values that D4RL's waypoint generator finds by Q-iteration.
"""

from collections import deque

import numpy as np
from numpy.typing import ArrayLike

from iql_jax.envs.mazes import MazeMap
from iql_jax.utils.arrays import Float64, Int64

_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
UNREACHABLE = -1


class MazePlanner:
    """Plans on the cells of one maze.

    The planner has no memory: a waypoint depends on the position and the goal alone. From any point
    of a cell the straight line to any point of the next one crosses no wall, because two cells that
    share an open side form a rectangle; hence waypoints may be followed from wherever the agent is.

    Args:
        maze: the maze; it needs at least one free cell.
    """

    def __init__(self, maze: MazeMap) -> None:
        self.maze = maze
        self._free = maze.free_cells()
        if not len(self._free):
            raise ValueError("the maze has no free cell")
        self._nearest_free = self._find_nearest_free()
        self._next_cells: dict[tuple[int, int], Int64] = {}

    def distances(self, goal_cell: tuple[int, int]) -> Int64:
        """Returns the moves from every cell to a goal cell.

        Args:
            goal_cell: row and column of a free cell.

        Returns:
            [rows, columns] moves (up, down, left or right) on a shortest path; ``UNREACHABLE`` for
            walls and for cells that no path joins to the goal.

        Raises:
            ValueError: if the goal cell is a wall or outside the map.
        """
        if not self.maze.is_free_cell(*goal_cell):
            raise ValueError(f"cell {goal_cell} is not a free cell of the maze")
        distances = np.full(self.maze.shape, UNREACHABLE, dtype=np.int64)
        distances[goal_cell] = 0
        queue = deque([goal_cell])
        while queue:
            row, col = queue.popleft()
            for step_row, step_col in _MOVES:
                cell = (row + step_row, col + step_col)
                if self.maze.is_free_cell(*cell) and distances[cell] == UNREACHABLE:
                    distances[cell] = distances[row, col] + 1
                    queue.append(cell)
        return distances

    def next_cells(self, goal_cell: tuple[int, int]) -> Int64:
        """Returns for every cell the next one on a shortest path to a goal cell.

        Args:
            goal_cell: row and column of a free cell.

        Returns:
            [rows, columns, 2]: row and column of the neighbor to go to. The goal cell, and cells
            that no path joins to it, lead to themselves; walls lead where the nearest free cell
            does, so that an agent pressed into a wall still finds out. Of several shortest paths
            the first in the order up, down, left, right is taken.
        """
        goal_cell = (int(goal_cell[0]), int(goal_cell[1]))
        if goal_cell not in self._next_cells:
            distances = self.distances(goal_cell)
            following = np.moveaxis(np.indices(self.maze.shape), 0, -1)
            for row, col in self._free.tolist():
                if distances[row, col] <= 0:  # The goal itself, or unreachable.
                    continue
                neighbors = [(row + i, col + j) for i, j in _MOVES]
                following[row, col] = next(
                    cell
                    for cell in neighbors
                    if self.maze.is_free_cell(*cell) and distances[cell] == distances[row, col] - 1
                )
            nearest = self._nearest_free
            self._next_cells[goal_cell] = following[nearest[..., 0], nearest[..., 1]]
        return self._next_cells[goal_cell]

    def waypoint_table(self, goal_xy: ArrayLike) -> Float64:
        """Returns where to head from each cell in order to reach a goal.

        Args:
            goal_xy: [2] position of the goal in meters. One inside a wall counts as lying in the
                nearest free cell.

        Returns:
            [rows, columns, 2] meters: the center of the next cell, or the goal itself where that
            cell is the goal's.
        """
        goal_cell = self._cell_of(np.asarray(goal_xy, dtype=np.float64))
        following = self.next_cells((int(goal_cell[0]), int(goal_cell[1])))
        last = np.all(following == goal_cell, axis=-1, keepdims=True)
        return np.where(last, goal_xy, self.maze.cell_to_xy(following))

    def _cell_of(self, xy: Float64) -> Int64:
        """Returns the free cells in or nearest to which positions [..., 2] lie."""
        limits = np.array(self.maze.shape) - 1
        cells = np.clip(self.maze.xy_to_cell(xy), 0, limits)
        return self._nearest_free[cells[..., 0], cells[..., 1]]

    def _find_nearest_free(self) -> Int64:
        """Returns the free cell nearest to each cell, [rows, columns, 2]."""
        cells = np.moveaxis(np.indices(self.maze.shape), 0, -1)
        offsets = cells[:, :, None, :] - self._free[None, None, :, :]
        return self._free[np.argmin((offsets**2).sum(axis=-1), axis=-1)]
