"""The AntMaze tasks: their environments, and ants that walk through their mazes side by side."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec

from iql_jax.envs.maze_environments import bare_environment, registered_spec
from iql_jax.envs.mazes import MazeMap, at_goal
from iql_jax.generation.ant_controller import (
    AntController,
    ant_actions,
    canonical_features,
    rotation_matrices,
)
from iql_jax.generation.planner import MazePlanner

SCALING = 4.0
STATE_DIM = 29
ACTION_DIM = 8

DAMPING = 0.05
"""What the collecting policy takes off the torques, of the greatest per rad/s of their joints."""

UNREST = 0.4
"""What it adds to the torques of joints that hardly move, of the greatest per rad/s. It leaves no
pose in which an ant can rest, but for those with joints at the ends of their ranges. A policy that
is learned from ants without it finds such poses, by fitting their actions a little wrongly, and
stands there for good."""

CENTRING = 1.0
"""What it adds to the torques of joints that hardly move, of the greatest: so much at the ends of
their ranges, less towards the middle, and always towards it. Where unrest is not enough: policies
still stood, all ankles and most hips at an end, where a little torque holds them without speed."""

_REST_SPEED = 1.5
"""What counts as hardly moving: the root mean square (rad/s) of the joints' speeds. When an ant
walks it is 3. Driven up to 2 rad/s, even half as hard, ants fell several times as often."""

_STANDING = 0.8
"""The height of the torso's up vector from which an ant stands, and its joints are driven so."""

_LANE = 0.4
"""Half the width (m) of the lane in which ants leave a cell that they walk through the middle of: a
little less than the goal's radius."""

_ROWS_AT_ONCE = 4


@dataclasses.dataclass(frozen=True)
class AntMaze:
    """One of the AntMaze tasks.

    Attributes:
        env_id: the Gymnasium id of the environment. Its map marks the cells from which goals are
            drawn; where it marks none, these are all free cells.
        start_cell: row and column where every episode of the evaluation starts, as in Minari.
        goal_cell: row and column of the evaluation's only goal, as in Minari.
        fixed: whether the evaluation's start and goal are those of the collection too.
    """

    env_id: str
    start_cell: tuple[int, int]
    goal_cell: tuple[int, int]
    fixed: bool = False


TASKS = {
    "umaze": AntMaze("AntMaze_UMaze-v4", (3, 1), (1, 1), fixed=True),
    "umaze-diverse": AntMaze("AntMaze_UMaze-v4", (3, 1), (1, 1)),
    "medium-play": AntMaze("AntMaze_Medium-v4", (1, 1), (6, 6)),
    "medium-diverse": AntMaze("AntMaze_Medium_Diverse_GR-v4", (1, 1), (6, 6)),
    "large-play": AntMaze("AntMaze_Large-v4", (1, 1), (7, 9)),
    "large-diverse": AntMaze("AntMaze_Large_Diverse_GR-v4", (1, 1), (7, 9)),
}


def collecting_spec(task: str) -> EnvSpec:
    """Describe the environment that data are collected in: its goals neither end nor move.

    Ants start in any free cell without a goal's mark, also in the diverse mazes; ``antmaze`` says
    why.
    """
    spec = registered_spec(TASKS[task].env_id)
    if TASKS[task].fixed:
        spec.kwargs["maze_map"] = _evaluation_map(task)
    else:
        # "c" marks a start and a goal, "g" a goal; where no start is marked, it may be anywhere.
        spec.kwargs["maze_map"] = [
            ["g" if cell == "c" else cell for cell in row] for row in spec.kwargs["maze_map"]
        ]
    spec.kwargs |= {"continuing_task": True, "reset_target": False}
    return spec


def evaluation_spec(task: str) -> EnvSpec:
    """Describe the evaluation environment: the same walls, with one start and one goal.

    For umaze, Minari's metadata have the mirror image of the walls here, where no policy that was
    learned from the data can succeed.
    """
    spec = registered_spec(TASKS[task].env_id)
    spec.kwargs |= {
        "maze_map": _evaluation_map(task),
        "continuing_task": True,
        "reset_target": False,
    }
    return spec


def _evaluation_map(task: str) -> list[list[int | str]]:
    maze = _registered_map(task)
    cells: list[list[int | str]] = [[int(wall) for wall in row] for row in maze.walls]
    for mark, (row, column) in (("r", TASKS[task].start_cell), ("g", TASKS[task].goal_cell)):
        cells[row][column] = mark
    return cells


def _registered_map(task: str) -> MazeMap:
    return MazeMap.from_lists(registered_spec(TASKS[task].env_id).kwargs["maze_map"], SCALING)


@functools.lru_cache(maxsize=4)
def build_environment(task: str, evaluation: bool = False) -> Any:
    """Build an environment without wrappers."""
    return bare_environment(evaluation_spec(task) if evaluation else collecting_spec(task))


@functools.lru_cache(maxsize=4)
def build_planner(task: str) -> MazePlanner:
    """Make the planner of a task's maze."""
    return MazePlanner(_registered_map(task))


@functools.lru_cache(maxsize=1)
def load_controller() -> AntController:
    """Load the packaged controller, once a process."""
    return AntController.load()


class Ants:
    """B ants, each alone in its own copy of one maze, stepped side by side.

    A step computes what the environment's own step does to the state, and nothing else: no
    contact forces, no rewards of the open-ground ant. The environment draws the starts, and the
    cells of the goals. Goals lie in the middle of their cells, as the evaluation's does: those
    of the environment lie up to a metre beside it, and from ants that waited there for most of the
    data policies learned to wait there too, in sight of the evaluation's goal.

    Args:
        env: an AntMaze environment without wrappers. Its own state changes at resets.
        planner: the planner of its maze.
        count: B.
        through: row and column of a cell that is not cut at its corner: ants whose way leads
            through it walk through its middle, as Minari's do in every cell. None: no cell.

    Attributes:
        states: [B, 29] float64: x, y, and the ant's observation. Overwritten at each step.
        goals: [B, 2] float64, in metres.
    """

    def __init__(
        self,
        env: Any,
        planner: MazePlanner,
        count: int,
        through: tuple[int, int] | None = None,
    ) -> None:
        self._env = env
        self._planner = planner
        self._through = through
        self._data = [mujoco.MjData(env.model) for _ in range(count)]
        # Views: MuJoCo keeps the buffers of its state in place.
        self._buffers = [(data.ctrl, data.qpos, data.qvel) for data in self._data]
        self._waypoints = np.zeros((count, *planner.maze.shape, 2))
        self.states = np.zeros((count, STATE_DIM))
        self.goals = np.zeros((count, 2))
        ranges = env.model.jnt_range[1:]  # The first joint is the torso's, which is free.
        self._centres, self._reaches = ranges.mean(axis=-1), np.ptp(ranges, axis=-1) / 2

    def reset(self, index: int, seed: int) -> None:
        """Start a new episode of one ant."""
        observation, _ = self._env.reset(seed=seed)
        mujoco.mj_copyData(self._data[index], self._env.model, self._env.data)
        maze = self._planner.maze
        self.goals[index] = maze.cell_to_xy(maze.xy_to_cell(observation["desired_goal"]))
        self._waypoints[index] = self._planner.waypoint_table(self.goals[index])
        self._read(index)

    def step(self, actions: npt.NDArray[np.float32], which: Iterable[int] | None = None) -> None:
        """Apply actions in [-1, 1], [B, 8], for one environment step (0.05 s).

        Args:
            actions: of all ants.
            which: indices of those that make the step; None for all.
        """
        model, frames = self._env.model, self._env.ant_env.frame_skip
        for i in range(len(self._data)) if which is None else which:
            self._buffers[i][0][:] = actions[i]
            mujoco.mj_step(model, self._data[i], nstep=frames)
            self._read(i)

    def directions(self) -> npt.NDArray[np.float64]:
        """Compute the unit directions to the ants' next waypoints, [B, 2]."""
        positions = self.states[:, :2]
        cells = self._planner.maze.xy_to_cell(positions)
        waypoints = self._waypoints[np.arange(len(cells)), cells[:, 0], cells[:, 1]]
        if self._through is not None:
            middle = self._planner.maze.cell_to_xy(self._through)
            # A way leaves its cell along x or along y.
            ahead, offset = np.abs(waypoints - middle), np.abs(positions - middle)
            beside = np.where(ahead[:, 0] < ahead[:, 1], offset[:, 0], offset[:, 1])
            passing = (cells == self._through).all(axis=-1) & (ahead.max(axis=-1) > 0.0)
            waypoints[passing & (beside > _LANE)] = middle
        offsets = waypoints - positions
        return offsets / (np.linalg.norm(offsets, axis=-1, keepdims=True) + 1e-8)

    def upright(self) -> npt.NDArray[np.float32]:
        """Compute the heights of the torsos' up vectors, [B]: 1 upright, -1 on the back."""
        return rotation_matrices(self.states[:, 3:7])[:, 2, 2]

    def headings(self) -> npt.NDArray[np.float32]:
        """Compute the angles (rad) of the bodies' x axes to the world's, [B]."""
        rotations = rotation_matrices(self.states[:, 3:7])
        return np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])

    def at_goal(self) -> npt.NDArray[np.bool_]:
        """Whether the ants are within the goal's radius, [B]."""
        return at_goal(self.states[:, :2], self.goals)

    def joint_positions(self) -> npt.NDArray[np.float64]:
        """Read where the joints are in their ranges, -1 to 1; the motors' order, [B, 8]."""
        return _of_motors((self.states[:, 7:15] - self._centres) / self._reaches)

    def joint_velocities(self) -> npt.NDArray[np.float64]:
        """Read the velocities (rad/s) of the joints in the order of the motors, [B, 8]."""
        return _of_motors(self.states[:, 21:])

    def _read(self, index: int) -> None:
        _, positions, velocities = self._buffers[index]
        self.states[index, :15] = positions
        self.states[index, 15:] = velocities


def _of_motors(joints: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Bring numbers of the joints, [B, 8], into the order of the motors."""
    # Motors are listed from the fourth leg on, joints from the first.
    return np.roll(joints, 2, axis=-1)


def steer(controller: AntController, ants: Ants) -> npt.NDArray[np.float32]:
    """Compute the actions, [B, 8] in [-1, 1], of the collecting policy before noise.

    The controller leads ants along their waypoints, always turned to the world's x axis. At the
    goal its motors rest, as Minari's ants wait there: ants that went to and fro through the goal
    instead made IQL spend nine tenths of its advantage weights on that, and learn walking many
    times more slowly. The joints of upright ants are damped besides: they are then hardly slower,
    fall less often, and keep their heading better. One on its back gets up with undamped swings.
    Where all joints of one that stands hardly move, their damping is turned into drive, and they
    are drawn to the middle of their ranges, except at the goal.
    """
    features, turns = canonical_features(ants.states[:, 2:], ants.directions(), one_heading=True)
    # Larger products are spread over threads, by which their last bits, too, would depend on the
    # number of cores; besides, the cores have enough to do.
    parts = range(0, len(features), _ROWS_AT_ONCE)
    drives = [controller.canonical_actions(features[i : i + _ROWS_AT_ONCE]) for i in parts]
    actions = ant_actions(np.concatenate(drives), turns)
    there = ants.at_goal()
    actions[there] = 0.0
    velocities = ants.joint_velocities()
    heights = ants.upright()
    stands = (heights > _STANDING) & ~there
    rest = np.exp(-np.mean(velocities**2, axis=-1) / _REST_SPEED**2)
    rest = np.where(stands, rest, 0.0)[:, None]
    added = (UNREST * rest - DAMPING) * velocities - CENTRING * rest * ants.joint_positions()
    upright = heights > 0.0
    actions[upright] += added[upright]
    return np.clip(actions, -1.0, 1.0)
