"""Tiny problems with known solutions: they show what is wrong where a long run shows only that."""

import jax
import numpy as np
import pytest

from iql_jax.algorithm.learner import create_state, update_n
from iql_jax.algorithm.policy import eval_actions
from iql_jax.algorithm.types import Transitions


def train(transitions, num_updates, **hyperparameters):
    state = create_state(
        jax.random.key(0),
        transitions.observations.shape[1],
        transitions.actions.shape[1],
        hidden_dims=(32, 32),
        value_lr=1e-3,
        critic_lr=1e-3,
        actor_lr=1e-3,
        tau=0.02,
        **hyperparameters,
    )
    return update_n(state, jax.device_put(transitions), num_updates, batch_size=128)[0]


@pytest.fixture(scope="module")
def bandit():
    """One state; action +0.5 pays 1, action -0.5 pays 0; each half of the data."""
    rewards = np.tile(np.array([0.0, 1.0], np.float32), 64)
    return Transitions(
        observations=np.ones((128, 1), np.float32),
        actions=(rewards[:, None] - 0.5).astype(np.float32),
        rewards=rewards,
        masks=np.zeros(128, np.float32),
        next_observations=np.ones((128, 1), np.float32),
    )


@pytest.mark.parametrize("expectile", [0.5, 0.9])
def test_bandit_value_is_the_expectile_of_the_rewards(bandit, expectile):
    # Of a fair coin with values 0 and 1, the tau-expectile is tau.
    state = train(bandit, 3_000, expectile=expectile, temperature=1.0)
    value = state.value.apply_fn(state.value.params, np.ones((1, 1), np.float32))
    assert float(value[0]) == pytest.approx(expectile, abs=0.03)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
def test_bandit_policy_is_the_weighted_maximum_likelihood(bandit, temperature):
    # Weights exp(beta (Q - V)) in the ratio e^beta : 1, so the mean is tanh(beta / 2) / 2
    # and the variance 1/4 - mean^2.
    state = train(bandit, 4_000, expectile=0.5, temperature=temperature)
    observation = np.ones((1, 1), np.float32)
    mean = float(eval_actions(state.actor, observation)[0, 0])
    expected = 0.5 * np.tanh(temperature / 2)
    assert mean == pytest.approx(expected, abs=0.03)
    log_std = float(state.actor.params["params"]["log_std"][0])
    assert np.exp(log_std) == pytest.approx(np.sqrt(0.25 - expected**2), abs=0.03)


def test_chain_values_are_the_tabular_fixed_point():
    """Six states in a row; right or left at random; reaching the right end pays 1 and ends."""
    num_states, discount, expectile = 6, 0.9, 0.9
    states = np.repeat(np.arange(num_states), 2)
    actions = np.tile([-1.0, 1.0], num_states).astype(np.float32)
    next_states = np.clip(states + actions.astype(int), 0, None)
    terminal = next_states == num_states
    one_hot = np.eye(num_states, dtype=np.float32)
    transitions = Transitions(
        observations=one_hot[states],
        actions=actions[:, None] * 0.9,
        rewards=terminal.astype(np.float32),
        masks=1.0 - terminal.astype(np.float32),
        next_observations=one_hot[np.minimum(next_states, num_states - 1)],
    )

    # Exact: V(s) is the expectile of the two Q(s, a), found by iterating to the fixed point.
    values = np.zeros(num_states)
    for _ in range(500):
        q = (
            transitions.rewards
            + discount * transitions.masks * values[np.minimum(next_states, num_states - 1)]
        )
        low, high = np.sort(q.reshape(num_states, 2), axis=1).T
        values = (1 - expectile) * low + expectile * high

    state = train(transitions, 6_000, discount=discount, expectile=expectile, temperature=3.0)
    learned = np.asarray(state.value.apply_fn(state.value.params, one_hot))
    np.testing.assert_allclose(learned, values, atol=0.05)
    assert np.all(np.diff(learned) > 0)
    assert np.all(eval_actions(state.actor, one_hot)[:, 0] > 0)
