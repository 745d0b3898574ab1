"""The geometry of a maze: cells, meters, walls.

The coordinates are those of gymnasium_robotics' maze environments: row 0 of the map is at the top
(largest y), column 0 at the left (smallest x), and the map's middle is the origin. Its ``Maze``
converts one position at a time, and importing it imports MuJoCo.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from iql_jax.utils.arrays import Bool, Float64, Int64
from iql_jax.utils.errors import UserError

GOAL_RADIUS = 0.45
"""Meters from the goal within which gymnasium_robotics counts a success."""

NOT_THIS_MAZE = 0.05
"""Share of positions in walls above which a maze cannot be theirs; simulated contacts are soft."""

WALL = 1
_CELL_VALUES = (0, WALL, "r", "g", "c")


def at_goal(xy: npt.NDArray[Any], goals: npt.NDArray[Any], radius: float = GOAL_RADIUS) -> Bool:
    """Returns whether positions [..., 2] lie within a radius of goals [..., 2], in meters."""
    return np.asarray(np.linalg.norm(xy - goals, axis=-1) <= radius)


@dataclasses.dataclass(frozen=True)
class MazeMap:
    """A maze, hashable and without live objects; see ``from_lists``."""

    cells: tuple[tuple[int | str, ...], ...]
    scaling: float

    @classmethod
    def from_lists(cls, cells: Sequence[Sequence[int | str]], scaling: float) -> "MazeMap":
        """Makes a maze of a ``maze_map`` of gymnasium_robotics; UserError if it is none.

        1 is a wall, 0 is free, 'r' a reset position, 'g' a goal, 'c' both. A cell has ``scaling``
        meters: 1 in PointMaze, 4 in AntMaze.
        """
        try:
            rows = tuple(map(tuple, cells))
        except TypeError:
            rows = ()
        known = all(cell in _CELL_VALUES for row in rows for cell in row)
        if not (known and len({len(row) for row in rows}) == 1 and rows[0]):
            raise UserError(
                f"the maze map must be rows of one length of 0, 1, 'r', 'g' or 'c', not {cells!r}"
            )
        return cls(rows, float(scaling))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.cells), len(self.cells[0])

    @property
    def walls(self) -> Bool:
        """Tells where walls stand, [rows, columns]."""
        return np.array([[cell == WALL for cell in row] for row in self.cells], dtype=np.bool_)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """The map's borders in meters: (xmin, xmax, ymin, ymax)."""
        x, y = self._middle()
        return -x, x, -y, y

    def free_cells(self) -> Int64:
        """Returns all cells that are no wall, row by row: [K, 2] rows and columns."""
        return np.argwhere(~self.walls).astype(np.int64)

    def marked(self, kind: str) -> Int64:
        """Returns the cells of goals ('g') or of reset positions ('r'): [K, 2]; K may be 0."""
        marks = [[cell in (kind, "c") for cell in row] for row in self.cells]
        return np.argwhere(marks).astype(np.int64)

    def cell_to_xy(self, cells: npt.ArrayLike) -> Float64:
        """Returns centers of cells: [..., 2] rows and columns to [..., 2] meters."""
        row, column = np.moveaxis(np.asarray(cells), -1, 0)
        x, y = self._middle()
        return np.stack([(column + 0.5) * self.scaling - x, y - (row + 0.5) * self.scaling], -1)

    def xy_to_cell(self, xy: npt.ArrayLike) -> Int64:
        """Returns the cells of positions: [..., 2] meters to rows and columns, maybe outside."""
        x, y = np.moveaxis(np.asarray(xy, dtype=np.float64), -1, 0)
        x_middle, y_middle = self._middle()
        cells = np.stack([y_middle - y, x + x_middle], axis=-1) / self.scaling
        return np.floor(cells).astype(np.int64)

    def is_free(self, xy: npt.ArrayLike) -> Bool:
        """Returns whether positions [..., 2] are in free cells; False outside the map."""
        cells = self.xy_to_cell(xy)
        inside = ((cells >= 0) & (cells < self.shape)).all(axis=-1)
        row, column = np.moveaxis(np.clip(cells, 0, np.array(self.shape) - 1), -1, 0)
        return np.asarray(inside & ~self.walls[row, column])

    def share_in_walls(self, xy: npt.ArrayLike) -> float:
        """Returns the share of positions [..., 2] in walls, or outside the map."""
        return float(np.mean(~self.is_free(xy)))

    def _middle(self) -> tuple[float, float]:
        """Returns the map's middle, in meters from its top left corner."""
        rows, columns = self.shape
        return columns / 2 * self.scaling, rows / 2 * self.scaling
