"""Ants that walk through a maze side by side, and what steers them."""

from collections.abc import Iterable

import mujoco
import numpy as np

from iql_jax.envs.mazes import at_goal
from iql_jax.generation.ant_controller import (
    AntController,
    ant_actions,
    canonical_features,
    rotation_matrices,
)
from iql_jax.generation.maze_tasks import MazeTask, build_environment
from iql_jax.utils.arrays import Bool, Float32, Float64

DAMPING = 0.05
"""Share of the greatest torque that is taken off, per rad/s of a joint's speed."""

UNREST = 0.4
"""Added to the torques of joints that hardly move, as a share of the greatest, per rad/s: it leaves
no pose in which an ant could rest, except with joints at the ends of their ranges."""

CENTERING = 1.0
"""Added to the torques of joints that hardly move, as a share of the greatest: this much at the
ends of their ranges, less towards the middle, and always towards it."""

_REST_SPEED = 1.5  # Joints hardly move below it: root mean square, rad/s. In walking it is 3.
_STANDING = 0.8  # Height of the torso's up vector from which an ant stands.
_LANE = 0.4  # Half the width (m) of the lane through the middle of a cell.
_MOTORS_AFTER_JOINTS = 2  # Motors are listed from the fourth leg on, joints from the first.
_ROWS_AT_ONCE = 4


class Ants:
    """B ants, each alone in its own copy of one maze, stepped side by side.

    A step computes what the environment's own step does to the state and nothing else: no contact
    forces, no rewards. The environment draws the starts and the cells of the goals; goals lie in
    the middle of their cells, as the evaluation's does.
    """

    def __init__(self, task: MazeTask, count: int, *, evaluation: bool = False) -> None:
        self._env = build_environment(task, evaluation)
        self._planner = task.planner()
        self._data = [mujoco.MjData(self._env.model) for _ in range(count)]
        self._waypoints = np.zeros((count, *self._planner.maze.shape, 2))
        self.states = np.zeros((count, 29))  # x, y, and the ant's observation; overwritten.
        self.goals = np.zeros((count, 2))  # Meters.
        # Where their way leads through this cell, ants walk through its middle. Elsewhere they cut
        # corners.
        self.through = task.goal_cell
        ranges = self._env.model.jnt_range[1:]  # The first joint is the torso's, which is free.
        self._centers, self._reaches = ranges.mean(axis=-1), np.ptp(ranges, axis=-1) / 2

    def reset(self, index: int, seed: int) -> None:
        """Starts a new episode of one ant."""
        observation, _ = self._env.reset(seed=seed)
        mujoco.mj_copyData(self._data[index], self._env.model, self._env.data)
        maze = self._planner.maze
        self.goals[index] = maze.cell_to_xy(maze.xy_to_cell(observation["desired_goal"]))
        self._waypoints[index] = self._planner.waypoint_table(self.goals[index])
        self._read(index)

    def step(self, actions: Float32, which: Iterable[int] | None = None) -> None:
        """Applies actions in [-1, 1], [B, 8], to some or all ants, for a step (0.05 s)."""
        model, frames = self._env.model, self._env.ant_env.frame_skip
        for i in range(len(self._data)) if which is None else which:
            self._data[i].ctrl[:] = actions[i]
            mujoco.mj_step(model, self._data[i], nstep=frames)
            self._read(i)

    def directions(self) -> Float64:
        """Returns the unit directions to the ants' next waypoints, [B, 2]."""
        positions = self.states[:, :2]
        cells = self._planner.maze.xy_to_cell(positions)
        waypoints = self._waypoints[np.arange(len(cells)), cells[:, 0], cells[:, 1]]
        middle = self._planner.maze.cell_to_xy(self.through)
        # A way leaves its cell along x or along y.
        ahead, offset = np.abs(waypoints - middle), np.abs(positions - middle)
        beside = np.where(ahead[:, 0] < ahead[:, 1], offset[:, 0], offset[:, 1])
        passing = (cells == self.through).all(axis=-1) & (ahead.max(axis=-1) > 0.0)
        waypoints[passing & (beside > _LANE)] = middle
        offsets = waypoints - positions
        return offsets / (np.linalg.norm(offsets, axis=-1, keepdims=True) + 1e-8)

    def upright(self) -> Float32:
        """Returns the heights of the torsos' up vectors, [B]: 1 upright, -1 on the back."""
        return rotation_matrices(self.states[:, 3:7])[:, 2, 2]

    def at_goal(self) -> Bool:
        """Returns which ants are within the goal's radius, [B]."""
        return at_goal(self.states[:, :2], self.goals)

    def joint_positions(self) -> Float64:
        """Returns where the joints are in their ranges, -1 to 1; in the motors' order, [B, 8]."""
        joints = (self.states[:, 7:15] - self._centers) / self._reaches
        return np.roll(joints, _MOTORS_AFTER_JOINTS, axis=-1)

    def joint_velocities(self) -> Float64:
        """Returns the velocities (rad/s) of the joints in the motors' order, [B, 8]."""
        return np.roll(self.states[:, 21:], _MOTORS_AFTER_JOINTS, axis=-1)

    def _read(self, index: int) -> None:
        self.states[index, :15] = self._data[index].qpos
        self.states[index, 15:] = self._data[index].qvel


def steer(controller: AntController, ants: Ants) -> Float32:
    """Returns the actions, [B, 8] in [-1, 1], of the collecting policy before noise.

    The controller leads ants along their waypoints, always turned to the world's x axis. At the
    goal its motors rest. The joints of upright ants are damped; one on its back gets up with
    undamped swings. Where the joints of one that stands hardly move, their damping is turned into
    drive, and they are drawn to the middle of their ranges, except at the goal.
    """
    features, turns = canonical_features(ants.states[:, 2:], ants.directions())
    # Larger products are spread over threads, and their last bits would depend on the cores.
    parts = range(0, len(features), _ROWS_AT_ONCE)
    drives = [controller(features[i : i + _ROWS_AT_ONCE]) for i in parts]
    actions = ant_actions(np.concatenate(drives), turns)
    there = ants.at_goal()
    actions[there] = 0.0
    velocities = ants.joint_velocities()
    heights = ants.upright()
    stands = (heights > _STANDING) & ~there
    rest = np.exp(-np.mean(velocities**2, axis=-1) / _REST_SPEED**2)
    rest = np.where(stands, rest, 0.0)[:, None]
    added = (UNREST * rest - DAMPING) * velocities - CENTERING * rest * ants.joint_positions()
    upright = heights > 0.0
    actions[upright] += added[upright]
    return np.clip(actions, -1.0, 1.0)
