"""The discrete u-maze of the paper's figure 2, its data, and what is exactly true in it.

A walker goes from cell to cell, from one end of a U to the other. A quarter of its actions are
replaced by uniformly random ones. Entering the goal pays 10 and ends the episode; nothing else
pays. The paper gives no size, start or time limit: they are chosen here.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from iql_jax.utils.arrays import Float32, Float64

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
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # Rows and columns: up, right, down, left.
GOAL_REWARD, TIME_LIMIT = 10.0, 100
RANDOM_EPISODES = 99  # Beside an optimal one.

STATES = [(r, c) for r, row in enumerate(CELLS) for c, cell in enumerate(row) if cell != "#"]
START, GOAL = (STATES.index(cell) for cell in ((1, 1), (6, 1)))
OBSERVATIONS: Float32 = np.eye(len(STATES), dtype=np.float32)
"""One-hot, one row for each state."""
UNIFORM: Float64 = np.full((len(STATES), len(MOVES)), 1 / len(MOVES))
"""The policy [S, A] of random actions."""


def _probabilities() -> Float64:
    """Returns the probability of each next state, [S, A, S]; walls are not entered."""
    number = {cell: i for i, cell in enumerate(STATES)}
    arrivals = [
        [number.get((r + down, c + right), i) for down, right in MOVES]
        for i, (r, c) in enumerate(STATES)
    ]
    certain = np.eye(len(STATES))[np.array(arrivals)]
    return 0.75 * certain + 0.25 * certain.mean(axis=1, keepdims=True)


PROBABILITIES = _probabilities()


def greedy(q_values: Float64) -> Float64:
    """Returns the policy [S, A] of the best actions."""
    return np.eye(len(MOVES))[q_values.argmax(axis=1)]


def optimal_q(discount: float) -> Float64:
    """Returns ``Q*`` [S, A], by value iteration."""
    q_values = np.zeros(UNIFORM.shape)
    for _ in range(3_000):  # 0.99 to this power is 1e-13.
        values = discount * q_values.max(axis=1)
        values[GOAL] = GOAL_REWARD
        q_values = PROBABILITIES @ values
    return q_values


def success_probability(policy: Float64) -> float:
    """Returns how likely a policy [S, A] reaches the goal from the start within the time limit."""
    steps = np.einsum("sa,sat->st", policy, PROBABILITIES)
    steps[GOAL] = np.eye(len(STATES))[GOAL]  # There it stays.
    return float(np.linalg.matrix_power(steps, TIME_LIMIT)[START, GOAL])


def dataset(seed: int = 0) -> dict[str, Any]:
    """Returns the fields of ``Transitions`` for 1 optimal episode and 99 of random actions."""
    generator = np.random.default_rng(seed)
    policies = [greedy(optimal_q(discount=0.99)), *[UNIFORM] * RANDOM_EPISODES]
    found = [step for policy in policies for step in _episode(policy, generator)]
    states, actions, arrivals, ends = np.array(found).T
    chosen = np.eye(len(MOVES), dtype=np.float32)[actions]
    at_goal = (arrivals == GOAL).astype(np.float32)
    return {
        "observations": OBSERVATIONS[states],
        "actions": chosen,
        "rewards": np.float32(GOAL_REWARD) * at_goal,
        "masks": 1 - at_goal,
        "next_observations": OBSERVATIONS[arrivals],
        "next_actions": np.roll(chosen, -1, axis=0),  # At an episode's end the mask is 0.
        "next_action_masks": 1 - ends.astype(np.float32),
    }


def _episode(
    policy: Float64, generator: np.random.Generator
) -> Iterator[tuple[int, int, int, bool]]:
    """Yields state, action, next state and whether the episode ends there."""
    state = START
    for t in range(1, TIME_LIMIT + 1):
        action = int(generator.choice(len(MOVES), p=policy[state]))
        arrival = int(generator.choice(len(STATES), p=PROBABILITIES[state, action]))
        yield state, action, arrival, t == TIME_LIMIT or arrival == GOAL
        if arrival == GOAL:
            break
        state = arrival
