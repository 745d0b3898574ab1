"""The discrete u-maze and finite Markov decision processes, against numbers worked out by hand."""

import numpy as np
import pytest

from iql_jax.envs import discrete_umaze as umaze
from iql_jax.envs.finite_mdp import FiniteMDP, greedy

# Exact solutions.


def corridor():
    """Left or right in 0, 1, 2; state 3, on the right, ends and pays 1."""
    transitions = np.zeros((4, 2, 4))
    for state in range(4):
        transitions[state, 0, max(state - 1, 0)] = 1
        transitions[state, 1, min(state + 1, 3)] = 1
    at_end = np.arange(4) == 3
    return FiniteMDP(transitions, at_end.astype(float), at_end)


def test_values_of_a_corridor_by_hand():
    q_values = corridor().optimal_q(0.5)
    np.testing.assert_allclose(q_values[:3], [[0.125, 0.25], [0.125, 0.5], [0.25, 1.0]], atol=1e-10)
    np.testing.assert_array_equal(greedy(q_values)[:3], [[0, 1]] * 3)


def test_chances_of_a_corridor_by_hand():
    uniform = np.full((4, 2), 0.5)
    assert corridor().success_probability(uniform, start=2, steps=1) == 0.5
    assert corridor().success_probability(uniform, start=2, steps=3) == 0.5 + 0.5**3
    assert corridor().success_probability(uniform, start=0, steps=2) == 0.0


# The maze.


def test_a_quarter_of_the_actions_is_random():
    model = umaze.model()
    np.testing.assert_allclose(model.transitions.sum(axis=2), 1.0)
    # To the right of the start, of four directions: up and left are walls.
    arrivals = model.transitions[umaze.START, 1]
    assert arrivals[umaze.START + 1] == pytest.approx(0.75 + 0.0625)
    assert arrivals[umaze.START] == pytest.approx(2 * 0.0625)
    assert model.rewards[umaze.GOAL] == 10
    assert model.rewards.sum() == 10


def test_the_environment_is_its_model():
    env = umaze.DiscreteUMaze()
    _, _ = env.reset(seed=0)
    counts = np.zeros(len(umaze.STATES))
    for _ in range(1_000):
        env._state = umaze.START
        counts[int(env.step(np.int64(2))[0].argmax())] += 1
    expected = umaze.model().transitions[umaze.START, 2]
    np.testing.assert_allclose(counts / 1_000, expected, atol=0.04)
    env._state = umaze.GOAL + 1
    while True:
        observation, reward, terminated, truncated, info = env.step(np.int64(3))
        if terminated:
            break
        assert (reward, truncated, info["success"]) == (0.0, False, False)
    assert (reward, info["success"], observation.argmax()) == (10.0, True, umaze.GOAL)
