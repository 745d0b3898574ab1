"""The maze and the goal that a maze dataset is evaluated on.

The metadata name them, but the walls of the evaluation maze need not be those of the maze in which
the data were collected. (Minari's antmaze umaze is evaluated in the mirror image of its own maze,
where no policy learned from it can succeed.) The config chooses:

- ``maze_walls='data'``: where positions in the data lie in the evaluation maze's walls, the
  collecting maze takes its place.
- ``maze_walls='evaluation'``: the evaluation maze as the metadata have it.
"""

import dataclasses
from typing import Any, Literal

import numpy as np
from gymnasium.envs.registration import EnvSpec

from iql_jax.envs.description import MazeTask
from iql_jax.envs.mazes import GOAL_RADIUS, NOT_THIS_MAZE, MazeMap
from iql_jax.utils.arrays import Float32
from iql_jax.utils.errors import UserError

MazeKind = Literal["point", "ant"]

_KINDS: dict[str, tuple[MazeKind, float]] = {
    "PointMazeEnv": ("point", 1.0),
    "AntMazeEnv": ("ant", 4.0),
    "D4RLAntMaze": ("ant", 4.0),
}
"""The mazes' environment classes, and the scaling that each fixes (meters a cell)."""

MAZE_ENTRIES = frozenset({"observation", "achieved_goal", "desired_goal"})
"""The entries of an observation of the maze environments."""

_TOLERATED_IN_WALLS = 1e-3
"""Share of positions by which the evaluation maze may do worse than the collecting one."""


@dataclasses.dataclass(frozen=True)
class MazeSetup:
    """The evaluation of a maze dataset."""

    kind: MazeKind
    task: MazeTask
    kwargs: dict[str, Any]  # Of the environment, over its specification.
    dense: bool  # Rewards are exp(-distance to the goal) instead of 1 within its radius.
    in_walls: float  # Share of the data's positions that lie in this maze's walls.
    notes: tuple[str, ...]


def maze_kind(spec: EnvSpec) -> MazeKind | None:
    """Returns 'point' or 'ant' for mazes, None for other environments."""
    module, _, name = str(spec.entry_point).partition(":")
    if module.startswith(("gymnasium_robotics.envs.maze.", "iql_jax.envs.")) and name in _KINDS:
        return _KINDS[name][0]
    return None


def maze_map(spec: EnvSpec) -> MazeMap:
    """Returns the maze of a maze environment's specification."""
    scaling = _KINDS[str(spec.entry_point).partition(":")[2]][1]
    cells = spec.kwargs.get("maze_map")
    if cells is None:  # The constructors' own default.
        from gymnasium_robotics.envs.maze.maps import U_MAZE

        cells = U_MAZE
    return MazeMap.from_lists(cells, scaling)


def set_up_maze(
    evaluation: EnvSpec,
    collection: EnvSpec,
    positions: Float32,
    observation_dim: int,
    goal: str,
    walls: str = "data",
    rewarded_goal: tuple[float, float] | None = None,
    radius: float = GOAL_RADIUS,
) -> MazeSetup:
    """Decides on the maze and the goal of the evaluation.

    Where the maze marks one goal, that is in the middle of its cell, so that success is the same
    for each way to read the data, unless ``goal`` is 'stored' and ``rewarded_goal``, to which all
    stored rewards refer, is known. ``positions`` [M, 2] are all in the data, in meters.

    Raises:
        UserError: if the data lie in walls of both mazes (and ``walls`` is 'data'), or if ``goal``
            is 'eval' and the maze does not mark one goal.
    """
    chosen = maze_map(evaluation)
    notes: list[str] = []
    if walls == "data":
        chosen, notes = _choose_map(chosen, maze_map(collection), positions)
    in_walls = chosen.share_in_walls(positions)
    if walls == "evaluation" and in_walls:
        notes.append(
            f"{100 * in_walls:.3g} % of the data's positions lie in walls of the evaluation maze, "
            "which is used all the same (config.maze_walls='evaluation')"
        )
    goals = chosen.cell_to_xy(chosen.marked("g"))
    if goal == "eval" and len(goals) != 1:
        raise UserError(
            f"config.maze_goal='eval' needs an evaluation maze with one goal cell, and that of "
            f"{evaluation.id} marks {len(goals)}; set config.maze_goal='episode' (the policy sees "
            "each episode's goal) or 'stored' (rewards as stored, goal not seen)"
        )
    fixed = None
    if goal == "stored" and rewarded_goal is not None:
        fixed = rewarded_goal
    elif len(goals) == 1:
        fixed = (float(goals[0, 0]), float(goals[0, 1]))
    kind = maze_kind(evaluation)
    assert kind is not None
    kwargs: dict[str, Any] = {
        "maze_map": [list(row) for row in chosen.cells],
        "continuing_task": False,
        "reset_target": False,
    }
    if kind == "ant":  # 27 numbers are without contact forces; v5 adds 78, earlier ones 84.
        is_old = "ant_maze_v4" in str(evaluation.entry_point)  # And that of v3.
        key = "use_contact_forces" if is_old else "include_cfrc_ext_in_observation"
        kwargs[key] = observation_dim > 27
    dense = evaluation.kwargs.get("reward_type", "sparse") == "dense"
    return MazeSetup(kind, MazeTask(chosen, fixed, radius), kwargs, dense, in_walls, tuple(notes))


def _choose_map(
    evaluation: MazeMap, collection: MazeMap, positions: Float32
) -> tuple[MazeMap, list[str]]:
    """Returns ``evaluation``, unless the data lie in its walls, and why.

    Then the collecting maze takes its place: with its own marks if it marks one goal, else with
    those of the evaluation maze, mirrored as its walls are.
    """
    in_evaluation = evaluation.share_in_walls(positions)
    in_collection = collection.share_in_walls(positions)
    if min(in_evaluation, in_collection) > NOT_THIS_MAZE:
        raise UserError(
            f"{100 * in_evaluation:.1f} % of the data's positions lie in walls of the evaluation "
            f"maze and {100 * in_collection:.1f} % in those of the collecting maze: the metadata's "
            "maze_map is not that of these data"
        )
    if in_evaluation <= in_collection + _TOLERATED_IN_WALLS:
        return evaluation, []
    note = (
        f"{100 * in_evaluation:.1f} % of the data's positions lie in walls of the evaluation maze: "
        "evaluating on the maze they were collected in"
    )
    if len(collection.marked("g")) == 1:
        return collection, [f"{note}, with its own start and goal"]
    for axes in (1, 0, (0, 1)):
        cells = np.flip(np.array(evaluation.cells, dtype=object), axes)
        mirrored = MazeMap.from_lists(cells.tolist(), evaluation.scaling)
        if np.array_equal(mirrored.walls, collection.walls):
            return mirrored, [f"{note}, with the evaluation's start and goal mirrored"]
    return collection, [f"{note}, where it draws starts and goals"]
