"""The geometry of a maze: cells, metres, walls.

The coordinates are those of gymnasium_robotics' maze environments: row 0 of the map is at the top
(largest y), column 0 at the left (smallest x), and the map's middle is the origin.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from iql_jax.utils.errors import UserError

GOAL_RADIUS = 0.45
"""Metres from the goal within which gymnasium_robotics counts a success (D4RL counted 0.5)."""

NOT_THIS_MAZE = 0.05
"""Share of positions in walls above which a maze cannot be theirs; simulated contacts are soft."""

WALL = 1
MARKS: dict[str, tuple[str, ...]] = {"g": ("g", "c"), "r": ("r", "c")}
"""What marks a cell as a goal ('g') or as a reset position ('r'); 'c' marks it as both."""

_CELL_VALUES = (0, WALL, "r", "g", "c")


def at_goal(xy: npt.NDArray[Any], goals: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether positions [..., 2] in metres lie within the radius of goals [..., 2]."""
    return np.asarray(np.linalg.norm(xy - goals, axis=-1) <= GOAL_RADIUS)


@dataclasses.dataclass(frozen=True)
class MazeMap:
    """A maze, hashable and without live objects.

    Attributes:
        cells: rows of cells as gymnasium_robotics writes a ``maze_map``: 1 is a wall, 0 is free,
            'r' a reset position, 'g' a goal, 'c' both.
        scaling: metres a cell: 1 for PointMaze, 4 for AntMaze.
    """

    cells: tuple[tuple[int | str, ...], ...]
    scaling: float

    @classmethod
    def from_lists(cls, cells: Sequence[Sequence[int | str]], scaling: float) -> "MazeMap":
        """Make a maze from rows of cells.

        Args:
            cells: rows of equal length, of 0, 1, 'r', 'g' and 'c'.
            scaling: metres a cell.

        Raises:
            UserError: if the rows are ragged, empty, or hold anything else.
        """
        try:
            rows = tuple(tuple(row) for row in cells)
        except TypeError as error:  # A dataset's metadata may hold anything.
            raise UserError(f"the maze map must be rows of cells, not {cells!r}") from error
        if not rows or not rows[0] or len({len(row) for row in rows}) != 1:
            raise UserError("the maze map must have rows of one length, and at least one cell")
        for row in rows:
            for cell in row:
                if cell not in _CELL_VALUES:
                    raise UserError(f"the maze map holds {cell!r}; cells are 0, 1, 'r', 'g' or 'c'")
        if not scaling > 0:
            raise UserError(f"the maze's scaling must be positive, not {scaling}")
        return cls(cells=rows, scaling=float(scaling))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.cells), len(self.cells[0])

    @property
    def walls(self) -> npt.NDArray[np.bool_]:
        """Where walls stand, [rows, columns]."""
        return np.array([[cell == WALL for cell in row] for row in self.cells], dtype=np.bool_)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """The map's borders in metres: (xmin, xmax, ymin, ymax)."""
        x, y = self._centre()
        return -x, x, -y, y

    def is_free_cell(self, row: int, col: int) -> bool:
        """Whether a cell lies in the map and is no wall."""
        rows, columns = self.shape
        return 0 <= row < rows and 0 <= col < columns and self.cells[row][col] != WALL

    def free_cells(self) -> npt.NDArray[np.int64]:
        """All cells that are no wall, row by row: [K, 2] rows and columns."""
        return np.argwhere(~self.walls).astype(np.int64)

    def marked(self, kind: str) -> npt.NDArray[np.int64]:
        """The cells marked as goals or as reset positions.

        Args:
            kind: 'g' for goals ('g' and 'c' cells) or 'r' for reset positions ('r' and 'c' cells).

        Returns:
            [K, 2] rows and columns, row by row; K may be 0.
        """
        marks = MARKS[kind]
        found = [
            (i, j)
            for i, row in enumerate(self.cells)
            for j, cell in enumerate(row)
            if cell in marks
        ]
        return np.array(found, dtype=np.int64).reshape(-1, 2)

    def cell_to_xy(self, cells: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Centres of cells: [..., 2] rows and columns to [..., 2] metres."""
        cells = np.asarray(cells)
        x_centre, y_centre = self._centre()
        x = (cells[..., 1] + 0.5) * self.scaling - x_centre
        y = y_centre - (cells[..., 0] + 0.5) * self.scaling
        return np.stack([x, y], axis=-1)

    def xy_to_cell(self, xy: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The cells that hold positions: [..., 2] metres to [..., 2] rows and columns.

        Positions outside the map give rows or columns outside it.
        """
        xy = np.asarray(xy, dtype=np.float64)
        x_centre, y_centre = self._centre()
        row = np.floor((y_centre - xy[..., 1]) / self.scaling)
        column = np.floor((xy[..., 0] + x_centre) / self.scaling)
        return np.stack([row, column], axis=-1).astype(np.int64)

    def is_free(self, xy: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether positions [..., 2] in metres are in free cells; False outside the map."""
        cells = self.xy_to_cell(xy)
        rows, columns = self.shape
        row, column = cells[..., 0], cells[..., 1]
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        wall = self.walls[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
        return np.asarray(inside & ~wall)

    def share_in_walls(self, xy: npt.ArrayLike) -> float:
        """The share of positions [..., 2] in metres that lie in walls, or outside the map."""
        return float(np.mean(~self.is_free(xy)))

    def _centre(self) -> tuple[float, float]:
        rows, columns = self.shape
        return columns / 2 * self.scaling, rows / 2 * self.scaling
