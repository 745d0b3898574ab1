"""The mazes of D4RL and OGBench in the frame of gymnasium_robotics, where policies are evaluated.

All three build a maze from the same drawings and place it differently:

- gymnasium_robotics (``envs/maze/maze_v4.py``): the map's middle is the origin, columns count along
  x, and rows count *against* y.
- D4RL's AntMaze (``d4rl/locomotion/maze_env.py``) and OGBench (``ogbench/locomaze/maze.py``): a
  certain cell's middle is the origin (D4RL: the start; OGBench: row 1, column 1), 4 m a cell,
  columns count along x, and rows count *along* y.
- D4RL's Maze2D (``d4rl/pointmaze/maze_model.py``): 1 m a cell, *rows* count along x and columns
  along y; the middle of cell (row, column) lies at (row - 0.2, column - 0.2), for the walls stand
  at (row + 1, column + 1) and the ball's zero at (1.2, 1.2). Goals lie at (row, column), so 0.28 m
  off their cell's middle.

So the drawing is turned until only a shift is left between the frames, and the positions are
shifted: directions, velocities and angles stay as they are.
"""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from iql_jax.envs.mazes import NOT_THIS_MAZE, MazeMap
from iql_jax.utils.errors import UserError

Cell = tuple[int, int]

UMAZE = ("#####", "#   #", "### #", "#   #", "#####")
OPEN = ("#######", "#     #", "#     #", "#     #", "#######")
MEDIUM = (
    "########",
    "#  ##  #",
    "#  #   #",
    "##   ###",
    "#  #   #",
    "# #  # #",
    "#   #  #",
    "########",
)
LARGE = (
    "############",
    "#    #     #",
    "# ## # # # #",
    "#      #   #",
    "# #### ### #",
    "#  # #     #",
    "## # # # ###",
    "#  #   #   #",
    "############",
)
GIANT = (
    "################",
    "# #      ##    #",
    "# # ## # #  ## #",
    "#   #  #   #   #",
    "# ### ###### # #",
    "#   #   #    # #",
    "### # #  # # ###",
    "#   #  #   #   #",
    "# # # ###### # #",
    "# ###   #   ## #",
    "#     #   #    #",
    "################",
)
"""The walls. D4RL's and gymnasium_robotics' drawings agree in them; the last is OGBench's."""


@dataclasses.dataclass(frozen=True)
class MazeFrame:
    """A maze, and how to get into its frame.

    Attributes:
        map: the maze as gymnasium_robotics takes it.
        shift: metres to add to a position of the file, x and y.
        goal: the middle of the goal's cell in gymnasium_robotics' frame.
        rewarded: where the task has its goal, in that frame; None where the files do not tell.
        radius: metres from it within which the task rewards.
    """

    map: MazeMap
    shift: tuple[float, float]
    goal: tuple[float, float]
    rewarded: tuple[float, float] | None
    radius: float


def ant_maze(drawing: tuple[str, ...], start: Cell, goal: Cell, origin: Cell) -> MazeFrame:
    """A maze of D4RL's AntMaze or of OGBench's.

    Args:
        drawing: rows of '#' and ' '.
        start: row and column where evaluation episodes begin.
        goal: row and column of the goal.
        origin: row and column of the cell whose middle is the file's origin.
    """
    cells = _cells(drawing)
    cells[start], cells[goal] = "r", "g"
    maze = MazeMap.from_lists(np.flipud(cells).tolist(), 4.0)

    def middle(cell: Cell) -> npt.NDArray[np.float64]:
        return maze.cell_to_xy((len(drawing) - 1 - cell[0], cell[1]))

    return MazeFrame(
        map=maze,
        shift=_pair(middle(origin)),
        goal=_pair(middle(goal)),
        rewarded=None,
        radius=0.5,
    )


def point_maze(drawing: tuple[str, ...], goal: Cell) -> MazeFrame:
    """A maze of D4RL's Maze2D, where episodes begin in any free cell.

    Args:
        drawing: rows of '#' and ' '.
        goal: row and column of the goal.
    """
    cells = _cells(drawing)
    cells[goal] = "g"
    maze = MazeMap.from_lists(np.rot90(cells).tolist(), 1.0)
    middle = maze.cell_to_xy((len(drawing[0]) - 1 - goal[1], goal[0]))
    shift = middle - np.array([goal[0] - 0.2, goal[1] - 0.2])
    return MazeFrame(
        map=maze,
        shift=_pair(shift),
        goal=_pair(middle),
        rewarded=_pair(middle + 0.2),
        radius=0.5,
    )


def check_positions(frame: MazeFrame, positions: npt.NDArray[Any], file_name: str) -> None:
    """Refuse positions [N, 2], as the file has them, that are not of this maze.

    Raises:
        UserError: if many lie in its walls; a few may, for simulated contacts are soft.
    """
    share = frame.map.share_in_walls(positions.astype(np.float64) + frame.shift)
    if share > NOT_THIS_MAZE:
        raise UserError(
            f"{100 * share:.0f} % of the positions in {file_name} lie in walls of the maze that "
            "--id names: it is another maze's file"
        )


def rewarded_point(
    positions: npt.NDArray[Any], radius: float
) -> tuple[tuple[float, float], float] | None:
    """Find the goal that rewards refer to from the positions that were rewarded.

    The middle of the smallest circle around them, by Badoiu and Clarkson's iteration ("Smaller
    core-sets for balls", 2003): a step towards the farthest point, ever smaller.

    Args:
        positions: [n, 2] metres.
        radius: how near to the goal a position is rewarded.

    Returns:
        The point, and how far from it the goal may lie: all positions are within ``radius`` of the
        goal, and some on the circle, of radius r, lie on its far side; so at most
        sqrt(radius^2 - r^2). None where there are no positions, or none of one goal.
    """
    if not len(positions):
        return None
    # The circle rests on outermost points alone.
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = positions[[int(np.argmax(positions @ direction)) for direction in directions]]
    points = np.unique(points.astype(np.float64), axis=0)
    middle = points.mean(axis=0)
    for step in range(1, 2001):
        farthest = points[np.argmax(((points - middle) ** 2).sum(axis=1))]
        middle += (farthest - middle) / (step + 1)
    reach = float(np.linalg.norm(points - middle, axis=1).max())
    if reach > radius + 0.01:
        return None
    return _pair(middle), max(radius**2 - reach**2, 0.0) ** 0.5


def _cells(drawing: tuple[str, ...]) -> npt.NDArray[np.object_]:
    return np.array([[1 if cell == "#" else 0 for cell in row] for row in drawing], dtype=object)


def _pair(xy: npt.NDArray[np.float64]) -> tuple[float, float]:
    return round(float(xy[0]), 6), round(float(xy[1]), 6)
