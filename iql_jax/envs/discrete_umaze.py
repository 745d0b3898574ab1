"""The discrete u-maze of the IQL paper's second figure, as a Gymnasium environment.

A walker goes from cell to cell, from one end of a U to the other. With a probability of a quarter
its action is replaced by one drawn uniformly. Entering the goal pays 10 and ends the episode;
nothing else pays. The size of the maze, its start and the time limit are this package's choice.
"""

import functools
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec

from iql_jax.envs.finite_mdp import FiniteMDP

CELLS = (
    "###########",
    "#S........#",
    "#.........#",
    "#######...#",
    "#######...#",
    "#.........#",
    "#G........#",
    "###########",
)
"""Walls '#', free cells, the start 'S' and the goal 'G'."""

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Rows and columns that the actions go: up, right, down, left."""

RANDOM_ACTIONS = 0.25
GOAL_REWARD = 10.0
TIME_LIMIT = 100

STATES = [(r, c) for r, row in enumerate(CELLS) for c, cell in enumerate(row) if cell != "#"]
"""Row and column of each state: a state is the number of a free cell."""

START = next(i for i, (r, c) in enumerate(STATES) if CELLS[r][c] == "S")
GOAL = next(i for i, (r, c) in enumerate(STATES) if CELLS[r][c] == "G")


@functools.cache
def model() -> FiniteMDP:
    """Returns the maze as a Markov decision process, of which everything is known."""
    number = {cell: i for i, cell in enumerate(STATES)}
    arrivals = [
        [number.get((r + down, c + right), i) for down, right in MOVES]
        for i, (r, c) in enumerate(STATES)
    ]
    steps = np.eye(len(STATES))[np.array(arrivals)]  # [S, A, S], were there no random actions.
    randomly = steps.mean(axis=1, keepdims=True)
    at_goal = np.arange(len(STATES)) == GOAL
    return FiniteMDP(
        transitions=(1 - RANDOM_ACTIONS) * steps + RANDOM_ACTIONS * randomly,
        rewards=GOAL_REWARD * at_goal,
        terminal=at_goal,
    )


def observe(states: int | npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Returns the observations of states [...]: one-hot vectors [..., S]."""
    return np.asarray(np.eye(len(STATES), dtype=np.float32)[states])


class DiscreteUMaze(gym.Env[npt.NDArray[np.float32], np.int64]):
    """The u-maze: observations are one-hot vectors of the state, actions the numbers of ``MOVES``.

    ``info['success']`` says whether the goal was reached.
    """

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(0.0, 1.0, (len(STATES),), np.float32)
        self.action_space = gym.spaces.Discrete(len(MOVES))
        self._state = START

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Begins at the start."""
        super().reset(seed=seed)
        self._state = START
        return observe(self._state), {}

    def step(
        self, action: np.int64
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Goes a step; the episode terminates at the goal."""
        arrivals = model().transitions[self._state, int(action)]
        self._state = int(self.np_random.choice(len(STATES), p=arrivals))
        success = self._state == GOAL
        reward = GOAL_REWARD if success else 0.0
        return observe(self._state), reward, success, False, {"success": success}


def environment_spec() -> EnvSpec:
    """Returns the specification that a dataset's metadata hold."""
    return EnvSpec(
        id="DiscreteUMaze-v0",
        entry_point="iql_jax.envs.discrete_umaze:DiscreteUMaze",
        max_episode_steps=TIME_LIMIT,
    )
