"""Tiny problems with known solutions: they show what is wrong where a long run shows only that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax.algorithm import AgentConfig, Transitions, create_state, eval_actions, update_n

RATES = {"actor_lr": 1e-3, "value_lr": 1e-3, "critic_lr": 1e-3, "tau": 0.02}
ONE = np.ones((1, 1), np.float32)


def bandit(actions, rewards):
    """Transitions of episodes of one step from one state."""
    size = len(rewards)
    ones, zeros = np.ones((size, 1), np.float32), np.zeros(size, np.float32)
    return Transitions(ones, np.float32(actions), np.float32(rewards), zeros, ones)


def test_a_bandits_value_is_the_expectile_and_its_policy_the_weighted_maximum_likelihood():
    """Action +0.5 pays 1 and action -0.5 pays 0; each is half of the data."""
    # Of a fair coin with values 0 and 1, the tau-expectile is tau. Weights exp(beta (Q - V)) are in
    # the ratio e^beta : 1, so the mean is tanh(beta / 2) / 2 and the variance 1/4 - mean^2.
    expectiles, temperatures = np.array([0.5, 0.9, 0.7]), np.array([0.0, 1.0, 3.0])
    members = [
        create_state(
            jax.random.key(i), 1, 1,
            AgentConfig(hidden_dims=(16, 16), expectile=e, temperature=t, **RATES),
        )
        for i, (e, t) in enumerate(zip(expectiles, temperatures, strict=True))
    ]  # fmt: skip
    data = jax.device_put(bandit([[-0.5], [0.5]], [0.0, 1.0]))
    train = jax.jit(jax.vmap(lambda state: update_n(state, data, 3_000, batch_size=32)[0]))
    trained = train(jax.tree.map(lambda *leaves: jnp.stack(leaves), *members))
    values = jax.vmap(lambda state: state.v(ONE)[0])(trained)
    np.testing.assert_allclose(values, expectiles, atol=0.03)
    means = jax.vmap(lambda state: eval_actions(state.actor, ONE)[0, 0])(trained)
    expected = 0.5 * np.tanh(temperatures / 2)
    np.testing.assert_allclose(means, expected, atol=0.03)
    stds = np.exp(trained.actor.params["params"]["log_std"][:, 0])
    np.testing.assert_allclose(stds, np.sqrt(0.25 - expected**2), atol=0.03)


@pytest.mark.parametrize("actor_loss", ["awr", "ddpgbc"])
def test_a_discrete_bandit_is_solved(actor_loss):
    """Action 1 of 3 pays 1; it is a tenth of the data."""
    choices = np.array([0] * 5 + [1] + [2] * 4)
    config = AgentConfig(
        hidden_dims=(16,), actor_loss=actor_loss, expectile=0.5, temperature=10.0, alpha=0.05,
        tau=0.05, actor_lr=3e-3, value_lr=3e-3, critic_lr=3e-3,
    )  # fmt: skip
    state = create_state(jax.random.key(0), 1, 3, config, discrete_actions=True)
    data = jax.device_put(bandit(np.eye(3)[choices], choices == 1))
    state, _ = update_n(state, data, 1_000, batch_size=32)
    np.testing.assert_array_equal(eval_actions(state.actor, ONE), [[0, 1, 0]])
    assert float(state.v(ONE)[0]) == pytest.approx(0.1, abs=0.03)


def test_a_chains_values_are_the_tabular_fixed_point():
    """Six states in a row; right or left at random; reaching the right end pays 1 and ends."""
    num_states, discount, expectile = 6, 0.9, 0.9
    states = np.repeat(np.arange(num_states), 2)
    actions = np.tile([-1.0, 1.0], num_states).astype(np.float32)
    next_states = np.clip(states + actions.astype(int), 0, None)
    terminal = next_states == num_states
    one_hot = np.eye(num_states, dtype=np.float32)
    next_states = np.minimum(next_states, num_states - 1)
    transitions = Transitions(
        observations=one_hot[states],
        actions=actions[:, None] * 0.9,
        rewards=terminal.astype(np.float32),
        masks=1.0 - terminal.astype(np.float32),
        next_observations=one_hot[next_states],
    )
    # Exact: V(s) is the expectile of the two Q(s, a), found by iterating to the fixed point.
    values = np.zeros(num_states)
    for _ in range(500):
        q = transitions.rewards + discount * transitions.masks * values[next_states]
        low, high = np.sort(q.reshape(num_states, 2), axis=1).T
        values = (1 - expectile) * low + expectile * high

    config = AgentConfig(hidden_dims=(32, 32), discount=discount, expectile=expectile, **RATES)
    state = create_state(jax.random.key(0), num_states, 1, config)
    state, _ = update_n(state, jax.device_put(transitions), 4_000, batch_size=32)
    learned = np.asarray(state.v(one_hot))
    np.testing.assert_allclose(learned, values, atol=0.05)
    assert np.all(np.diff(learned) > 0)
    assert np.all(eval_actions(state.actor, one_hot)[:, 0] > 0)
