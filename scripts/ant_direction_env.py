"""The task on which the goal-direction ant controller is trained: walk along a changing direction.

The body is that of AntMaze: gymnasium's ``Ant-v5`` without contact forces. Observations and actions
are the canonical ones of ``ant_controller``, so that what is learned for one heading holds for all
of them. The ground is open, with a direction that drifts and jumps, or it is a maze, with the
direction to the next waypoint: an ant that has never met a wall falls over the first one.
"""

import dataclasses
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv

from iql_jax.envs.mazes import GOAL_RADIUS, MazeMap
from iql_jax.envs.specs import build, registered_spec
from iql_jax.generation import ant_controller
from iql_jax.generation.planner import MazePlanner

Array = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class AntDirectionConfig:
    """Constants of the task.

    Attributes:
        maze_id: the AntMaze environment whose walls stand around the ant; None for open ground.
        action_noise: standard deviation of the Gaussian noise on every action, which is clipped.
        max_speed: speed along the direction (m/s) beyond which no more reward is earned.
        tilt_cost: cost per step and per unit that the up vector's height falls short of one, so
            that a step on the back costs twice this.
        heading_cost: cost per step of a heading halfway between two axes of the world; less where
            it is nearer to one, none on it.
        control_cost: cost per step of the squared action.
        fallen_start_share: share of the episodes that start in an arbitrary orientation.
        direction_steps: mean number of steps between new directions.
        turn_noise: standard deviation (rad) of the direction's change in each step.
        episode_steps: steps after which an episode is truncated.
        fallen_steps: steps that an ant may lie before its episode is truncated; None for no limit.
    """

    maze_id: str | None = None
    action_noise: float = 0.2
    max_speed: float = 3.5
    tilt_cost: float = 2.0
    heading_cost: float = 2.0
    control_cost: float = 0.02
    fallen_start_share: float = 0.15
    direction_steps: int = 100
    turn_noise: float = 0.03
    episode_steps: int = 500
    fallen_steps: int | None = 100


class AntDirectionEnv(gymnasium.Env[Array, Array]):
    """Rewards the ant for its speed along a direction, upright.

    Observation: canonical features, shape [31]. Action: canonical action in [-1, 1], shape [8].
    Reward: min(speed along the direction in m/s, max_speed) times the height of the up vector where
    positive, less the costs of tilt, heading and control.

    A fall ends nothing by itself: lying costs reward in every step, and what a fall is worth
    follows from how fast the ant gets up. Episodes are cut (truncated, never terminated) when an
    ant has lain for long, so that the data are not of lying ants.
    """

    def __init__(self, config: AntDirectionConfig | None = None) -> None:
        self.config = config or AntDirectionConfig()
        self._ant, self._planner = _make_ant(self.config.maze_id)
        size = (ant_controller.FEATURE_DIM,)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, size, np.float32)
        self.action_space = gymnasium.spaces.Box(
            -1.0, 1.0, (ant_controller.ACTION_DIM,), np.float32
        )
        self._direction = np.zeros(2)
        self._goal = np.zeros(2)
        self._turns = np.zeros(1, dtype=np.int64)
        self._steps = 0
        self._lying = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode; ``options={"fallen": bool}`` decides how, chance does otherwise."""
        super().reset(seed=seed)
        self._ant.reset(seed=int(self.np_random.integers(2**31)))
        fallen = self.np_random.random() < self.config.fallen_start_share
        if options is not None and "fallen" in options:
            fallen = options["fallen"]
        self._place(fallen)
        self._direction = _unit_vector(self.np_random.uniform(-np.pi, np.pi))
        if self._planner is not None:
            self._goal = self._random_position(self._planner)
            self._aim(self._planner)
        self._steps = self._lying = 0
        return self._observe(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Apply an action under noise; ``info`` has speed (m/s), upright and alignment."""
        config = self.config
        noise = self.np_random.normal(0.0, config.action_noise, ant_controller.ACTION_DIM)
        noisy = np.clip(action + noise, -1.0, 1.0)
        before = self._ant.data.qpos[:2].copy()
        self._ant.do_simulation(
            ant_controller.ant_actions(noisy[None], self._turns)[0], self._ant.frame_skip
        )
        velocity = (self._ant.data.qpos[:2] - before) / self._ant.dt
        speed = float(velocity @ self._direction)
        upright = float(self._ant.data.body("torso").xmat[8])
        reward = (
            min(speed, config.max_speed) * max(upright, 0.0)
            - config.tilt_cost * (1.0 - upright)
            - config.heading_cost * max(upright, 0.0) * 0.5 * (1.0 - self._alignment())
            - config.control_cost * float(np.sum(np.square(action)))
        )
        self._steps += 1
        self._lying = self._lying + 1 if upright < 0.0 else 0
        truncated = self._steps >= config.episode_steps or (
            config.fallen_steps is not None and self._lying >= config.fallen_steps
        )
        if self._planner is None:
            self._turn()
        else:
            self._aim(self._planner)
        info = {"speed": speed, "upright": upright, "alignment": self._alignment()}
        return self._observe(), reward, False, truncated, info

    def close(self) -> None:
        """Free the simulation."""
        self._ant.close()

    def _alignment(self) -> float:
        """1 where the body's heading is along an axis of the world, -1 halfway between two."""
        return float(np.cos(4.0 * self._heading()))

    def _heading(self) -> float:
        rotation = self._ant.data.body("torso").xmat.reshape(1, 3, 3)
        return float(ant_controller.headings(rotation)[0])

    def _observe(self) -> Array:
        observation = np.concatenate([self._ant.data.qpos[2:], self._ant.data.qvel])
        features, self._turns = ant_controller.canonical_features(
            observation[None], self._direction[None]
        )
        # In training all four axes are as good as x.
        phase = 4.0 * self._heading()
        features[0, -2:] = np.sin(phase), np.cos(phase)
        return features[0]

    def _turn(self) -> None:
        """Let the direction drift, and now and then jump: half of the jumps are quarter turns."""
        angle = self.np_random.normal(0.0, self.config.turn_noise)
        if self.np_random.random() * self.config.direction_steps < 1.0:
            if self.np_random.random() < 0.5:
                angle += self.np_random.choice([-0.5, 0.5]) * np.pi
            else:
                angle = self.np_random.uniform(-np.pi, np.pi)
        x, y = self._direction
        cosine, sine = _unit_vector(angle)
        self._direction = np.array([cosine * x - sine * y, sine * x + cosine * y])

    def _aim(self, planner: MazePlanner) -> None:
        """Direct the ant to its next waypoint, and to a new goal where it has arrived."""
        position = self._ant.data.qpos[:2]
        if np.linalg.norm(self._goal - position) < GOAL_RADIUS:
            self._goal = self._random_position(planner)
        row, column = planner.maze.xy_to_cell(position)
        offset = planner.waypoint_table(self._goal)[row, column] - position
        self._direction = offset / (np.linalg.norm(offset) + 1e-8)

    def _place(self, fallen: bool) -> None:
        """Put the ant somewhere: on its feet, or dropped in an arbitrary orientation."""
        position, velocity = self._ant.data.qpos.copy(), self._ant.data.qvel.copy()
        if self._planner is not None:
            position[:2] = self._random_position(self._planner)
        half_turn = self.np_random.uniform(-np.pi, np.pi)
        quaternion = np.array([np.cos(half_turn), 0.0, 0.0, np.sin(half_turn)])
        if fallen:
            position[2] = 0.6
            position[7:] += self.np_random.uniform(-0.5, 0.5, size=8)
            quaternion = self.np_random.normal(size=4)
            if self.np_random.random() < 0.5:
                # Half lie on the back, as most fallen ants do: turned about a horizontal axis.
                quaternion *= 0.1
                quaternion[1:3] += _unit_vector(half_turn)
        position[3:7] = quaternion / np.linalg.norm(quaternion)
        self._ant.set_state(position, velocity)

    def _random_position(self, planner: MazePlanner) -> npt.NDArray[np.float64]:
        """Draw a position (m) in a free cell, far enough from the walls to stand there."""
        maze = planner.maze
        cell = self.np_random.choice(maze.free_cells())
        return maze.cell_to_xy(cell) + self.np_random.uniform(-0.25, 0.25, size=2) * maze.scaling


def _make_ant(maze_id: str | None) -> tuple[MujocoEnv, MazePlanner | None]:
    """Build the ant's simulation, with the walls of a maze and its planner where one is given."""
    if maze_id is None:
        return AntEnv(include_cfrc_ext_in_observation=False), None
    environment: Any = build(registered_spec(maze_id)).unwrapped
    maze = environment.maze
    return environment.ant_env, MazePlanner(
        MazeMap.from_lists(maze.maze_map, maze.maze_size_scaling)
    )


def _unit_vector(angle: float) -> npt.NDArray[np.float64]:
    return np.array([np.cos(angle), np.sin(angle)])
