"""The mazes of D4RL and OGBench in the frame of gymnasium_robotics, where policies are evaluated.

All three build a maze from the same drawings and place it differently:

- gymnasium_robotics (``envs/maze/maze_v4.py``): the map's middle is the origin, columns count along
  x, and rows count *against* y.
- D4RL's AntMaze (``d4rl/locomotion/maze_env.py``) and OGBench (``ogbench/locomaze/maze.py``): the
  middle of row 1, column 1 is the origin, 4 m a cell, columns count along x, rows *along* y.
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
from gymnasium.envs.registration import EnvSpec

from iql_jax.envs.mazes import MazeMap
from iql_jax.utils.arrays import Float64

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
    """A maze in gymnasium_robotics' frame, and the way there."""

    map: MazeMap
    shift: tuple[float, float]  # Meters to add to a position of the file.
    goal: tuple[float, float]  # The middle of the goal's cell.
    # The goal that rewards refer to; None: found from the rewards.
    rewarded: tuple[float, float] | None
    radius: float = 0.5  # Meters from it within which the task rewards.

    @property
    def is_ant(self) -> bool:
        """True for an ant, False for a ball."""
        return self.map.scaling > 1


def ant_maze(drawing: tuple[str, ...], start: Cell, goal: Cell) -> MazeFrame:
    """Returns a maze of D4RL's AntMaze or of OGBench's."""
    cells = _cells(drawing)
    cells[start], cells[goal] = "r", "g"
    maze = MazeMap.from_lists(np.flipud(cells).tolist(), 4.0)

    def middle(cell: Cell) -> tuple[float, float]:
        return _pair(maze.cell_to_xy((len(drawing) - 1 - cell[0], cell[1])))

    return MazeFrame(map=maze, shift=middle((1, 1)), goal=middle(goal), rewarded=None)


def point_maze(drawing: tuple[str, ...], goal: Cell) -> MazeFrame:
    """Returns a maze of D4RL's Maze2D, where episodes begin in any free cell."""
    cells = _cells(drawing)
    cells[goal] = "g"
    maze = MazeMap.from_lists(np.rot90(cells).tolist(), 1.0)
    middle = maze.cell_to_xy((len(drawing[0]) - 1 - goal[1], goal[0]))
    shift = middle - np.array([goal[0] - 0.2, goal[1] - 0.2])
    return MazeFrame(maze, _pair(shift), _pair(middle), rewarded=_pair(middle + 0.2))


def maze_spec(spec: EnvSpec, maze: MazeFrame, max_episode_steps: int, **kwargs: Any) -> EnvSpec:
    """Returns gymnasium_robotics' environment with this maze: reaching the goal ends an episode."""
    settings = {"continuing_task": False, "reset_target": False, **spec.kwargs, **kwargs}
    settings |= {"maze_map": [list(row) for row in maze.map.cells]}
    return dataclasses.replace(spec, max_episode_steps=max_episode_steps, kwargs=settings)


def _cells(drawing: tuple[str, ...]) -> np.ndarray:
    return np.array([[1 if cell == "#" else 0 for cell in row] for row in drawing], dtype=object)


def _pair(xy: Float64) -> tuple[float, float]:
    return round(float(xy[0]), 6), round(float(xy[1]), 6)
