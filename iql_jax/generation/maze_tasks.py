"""The mazes of Gymnasium-Robotics, as data are collected in them and as policies are evaluated."""

import dataclasses
import functools
from typing import Any

from gymnasium.envs.registration import EnvSpec

from iql_jax.envs.mazes import WALL, MazeMap
from iql_jax.envs.specs import build, registered_spec
from iql_jax.generation.planner import MazePlanner

_ENDLESS = 1_000_000


@dataclasses.dataclass(frozen=True)
class MazeTask:
    """One task: a maze, where episodes start, and where they lead; cells are as in Minari."""

    # Of the collecting environment: its map marks the cells from which goals are drawn, or none for
    # all free ones.
    env_id: str
    scaling: float  # The width (m) of a cell.
    goal_cell: tuple[int, int]  # Row and column of the evaluation's only goal.
    # Mean returns of random actions and of the collecting policy without noise in the evaluation,
    # steps at the goal counted (``scripts/reference_returns.py``).
    reference_returns: tuple[float, float]
    start_cell: tuple[int, int] | None = None  # Of the evaluation; None for any free cell.
    fixed: bool = False  # Start and goal of the collection are those of the evaluation.
    draws_goals: bool = False  # The collection draws a goal at each arrival, and never ends.

    @property
    def time_limit(self) -> int:
        """The steps of an episode of the evaluation."""
        limit = registered_spec(self.env_id).max_episode_steps
        assert limit is not None
        return limit

    def collecting_spec(self) -> EnvSpec:
        """Describes the collecting environment, where goals end nothing; starts may be anywhere."""
        if self.fixed:
            return self.evaluation_spec()
        # "c" marks a start and a goal, "g" a goal; where no start is marked, it may be anywhere.
        spec = self._spec([["g" if cell == "c" else cell for cell in row] for row in self._map])
        if self.draws_goals:
            spec.kwargs["reset_target"] = True
            spec.max_episode_steps = _ENDLESS
        return spec

    def evaluation_spec(self) -> EnvSpec:
        """Describes the evaluation environment: the same walls, and one goal, which stays.

        For AntMaze umaze, Minari's metadata have the mirror image of the walls here, where no
        policy that was learned from the data can succeed.
        """
        cells: list[list[Any]] = [[int(cell == WALL) for cell in row] for row in self._map]
        cells[self.goal_cell[0]][self.goal_cell[1]] = "g"
        if self.start_cell is not None:
            cells[self.start_cell[0]][self.start_cell[1]] = "r"
        return self._spec(cells)

    def planner(self) -> MazePlanner:
        """Returns the planner of the maze."""
        return MazePlanner(MazeMap.from_lists(self._map, self.scaling))

    @property
    def _map(self) -> list[list[Any]]:
        return registered_spec(self.env_id).kwargs["maze_map"]

    def _spec(self, cells: list[list[Any]]) -> EnvSpec:
        spec = registered_spec(self.env_id)
        spec.kwargs |= {"maze_map": cells, "continuing_task": True, "reset_target": False}
        return spec


@functools.lru_cache(maxsize=4)
def build_environment(task: MazeTask, evaluation: bool = False) -> Any:
    """Builds an environment without wrappers, which would cost more than the physics."""
    return build(task.evaluation_spec() if evaluation else task.collecting_spec()).unwrapped
