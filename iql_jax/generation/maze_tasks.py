"""The mazes of Gymnasium-Robotics, as data are collected in them and as policies are evaluated."""

import dataclasses
import functools
from typing import Any

from gymnasium.envs.registration import EnvSpec

from iql_jax.envs.maze_environments import REQUIREMENTS, bare_environment, registered_spec
from iql_jax.envs.mazes import MazeMap
from iql_jax.generation.planner import MazePlanner

_ENDLESS = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class MazeTask:
    """One task: a maze, where episodes start, and where they lead.

    Attributes:
        env_id: the Gymnasium id of the collecting environment. Its map marks the cells from which
            goals are drawn; where it marks none, these are all free cells.
        scaling: the width (m) of a cell.
        goal_cell: row and column of the evaluation's only goal, as in Minari.
        reference_returns: mean returns of 100 episodes in the evaluation environment, of random
            actions and of the collecting policy without noise (``scripts/reference_returns.py``);
            they count the steps at the goal.
        start_cell: row and column where every episode of the evaluation starts, as in Minari; None
            for any free cell.
        fixed: whether the evaluation's start and goal are those of the collection too.
        draws_goals: whether the collecting environment draws a new goal at each arrival, instead of
            ending its episodes.
    """

    env_id: str
    scaling: float
    goal_cell: tuple[int, int]
    reference_returns: tuple[float, float]
    start_cell: tuple[int, int] | None = None
    fixed: bool = False
    draws_goals: bool = False

    @property
    def time_limit(self) -> int:
        """The steps of an episode of the evaluation."""
        limit = registered_spec(self.env_id).max_episode_steps
        assert limit is not None
        return limit

    def collecting_spec(self) -> EnvSpec:
        """Describes the collecting environment, where goals end nothing; starts may be anywhere."""
        spec = registered_spec(self.env_id)
        # "c" marks a start and a goal, "g" a goal; where no start is marked, it may be anywhere.
        anywhere = [["g" if cell == "c" else cell for cell in row] for row in self._registered_map]
        spec.kwargs |= {
            "maze_map": self._evaluation_map() if self.fixed else anywhere,
            "continuing_task": True,
            "reset_target": self.draws_goals,
        }
        if self.draws_goals:
            spec.max_episode_steps = _ENDLESS
        return spec

    def evaluation_spec(self) -> EnvSpec:
        """Describes the evaluation environment: the same walls, and one goal, which stays.

        For AntMaze umaze, Minari's metadata have the mirror image of the walls here, where no
        policy that was learned from the data can succeed.
        """
        spec = registered_spec(self.env_id)
        spec.kwargs |= {
            "maze_map": self._evaluation_map(),
            "continuing_task": True,
            "reset_target": False,
        }
        return spec

    def metadata(self) -> dict[str, Any]:
        """Returns entries of Minari's metadata."""
        low, high = self.reference_returns
        return {
            "eval_env_spec": self.evaluation_spec().to_json(),
            "requirements": list(REQUIREMENTS),
            "ref_min_score": low,
            "ref_max_score": high,
            "num_episodes_average_score": 100,
        }

    @property
    def _registered_map(self) -> list[list[Any]]:
        return registered_spec(self.env_id).kwargs["maze_map"]

    def _evaluation_map(self) -> list[list[int | str]]:
        maze = MazeMap.from_lists(self._registered_map, self.scaling)
        cells: list[list[int | str]] = [[int(wall) for wall in row] for row in maze.walls]
        for mark, cell in (("r", self.start_cell), ("g", self.goal_cell)):
            if cell is not None:
                cells[cell[0]][cell[1]] = mark
        return cells


@functools.lru_cache(maxsize=4)
def build_environment(task: MazeTask, evaluation: bool = False) -> Any:
    """Builds an environment without wrappers."""
    return bare_environment(task.evaluation_spec() if evaluation else task.collecting_spec())


@functools.lru_cache(maxsize=4)
def build_planner(task: MazeTask) -> MazePlanner:
    """Returns the planner of a task's maze."""
    return MazePlanner(MazeMap.from_lists(task._registered_map, task.scaling))
