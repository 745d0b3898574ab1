"""One test for each way in which implementations of IQL are known to deviate from the official one.

Every expected number is computed here from the networks' forward passes alone.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, compiled_update, make_state, make_transitions

from iql_jax.algorithm import AgentConfig, create_state

HYPERPARAMETERS = {"expectile": 0.8, "temperature": 2.0, "discount": 0.9, "tau": 0.25}
RATES = {"actor_lr": 0.1, "value_lr": 0.1, "critic_lr": 0.1}


@pytest.fixture(scope="module")
def step():
    """A state, a batch, and the state and metrics after one update with large learning rates.

    Large, so that new and old networks differ well beyond rounding.
    """
    state, batch = make_state(**HYPERPARAMETERS, **RATES), make_transitions()
    new_state, metrics = compiled_update(state, batch)
    return state, batch, new_state, {name: float(metric) for name, metric in metrics.items()}


def v(state, observations):
    return np.asarray(state.v(observations), np.float64)


def min_q(state, params, batch):
    q_values = state.critic.apply_fn(params, batch.observations, batch.actions)
    return np.min(np.asarray(q_values, np.float64), axis=0)


def test_v_regresses_on_the_target_critics_minimum(step):
    state, batch, _, metrics = step
    u = min_q(state, state.target_critic_params, batch) - v(state, batch.observations)
    assert metrics["value_loss"] == pytest.approx(np.mean(np.abs(0.8 - (u < 0)) * u**2), rel=1e-5)


def test_the_advantage_uses_target_critics_and_new_v(step):
    state, batch, new_state, metrics = step
    new_v, old_v = v(new_state, batch.observations), v(state, batch.observations)
    target = min_q(state, state.target_critic_params, batch)
    online = min_q(state, state.critic.params, batch)
    moved_target = min_q(state, new_state.target_critic_params, batch)
    assert metrics["advantage"] == pytest.approx(np.mean(target - new_v), rel=1e-5)
    for wrong in (target - old_v, online - new_v, moved_target - new_v):
        assert abs(metrics["advantage"] - np.mean(wrong)) > 0.01


def test_the_actor_weighs_log_probabilities_by_clipped_exponential_advantages(step):
    state, batch, new_state, metrics = step
    advantages = min_q(state, state.target_critic_params, batch) - v(new_state, batch.observations)
    means, log_stds = state.actor.apply_fn(state.actor.params, batch.observations)
    means, stds = np.asarray(means, np.float64), np.exp(np.asarray(log_stds, np.float64))
    log_probs = np.sum(
        -0.5 * ((batch.actions - means) / stds) ** 2 - np.log(stds) - 0.5 * np.log(2 * np.pi),
        axis=1,
    )
    weights = np.minimum(np.exp(2.0 * advantages), 100.0)
    assert metrics["actor_loss"] == pytest.approx(-np.mean(weights * log_probs), rel=1e-5)
    assert metrics["weight_ess"] == pytest.approx(
        weights.sum() ** 2 / (16 * np.sum(weights**2)), rel=1e-5
    )


def test_the_critics_target_uses_new_v_and_the_loss_sums_over_critics(step):
    state, batch, new_state, metrics = step

    def loss(state_of_v, reduce):
        targets = batch.rewards + 0.9 * batch.masks * v(state_of_v, batch.next_observations)
        q = state.critic.apply_fn(state.critic.params, batch.observations, batch.actions)
        return np.mean(reduce((np.asarray(q) - targets) ** 2, axis=0))

    assert metrics["critic_loss"] == pytest.approx(loss(new_state, np.sum), rel=1e-5)
    assert abs(metrics["critic_loss"] - loss(state, np.sum)) > 0.01
    assert abs(metrics["critic_loss"] - loss(new_state, np.mean)) > 0.01


def test_the_target_moves_last_towards_the_new_critics(step):
    state, _, new_state, _ = step
    old, new = state.target_critic_params, new_state.critic.params
    expected = jax.tree.map(lambda old, new: 0.25 * new + 0.75 * old, old, new)
    assert_close(new_state.target_critic_params, expected, atol=1e-6)


def test_the_target_starts_equal_to_the_critics_in_buffers_of_its_own():
    state = create_state(jax.random.key(0), 5, 2, AgentConfig(hidden_dims=(16, 16)))
    assert_close(state.target_critic_params, state.critic.params)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state.replace(key=None))]
    assert len(pointers) == len(set(pointers))


def metrics_of_advantages_near(advantage, **hyperparameters):
    """Metrics of an update whose advantages the target critics' last biases decide."""
    state = make_state(temperature=10.0, **hyperparameters)
    params = jax.tree.map(jnp.copy, state.target_critic_params)
    for name in ("q1", "q2"):
        params["params"][name]["out"]["bias"] = jnp.full((1,), advantage)
    _, metrics = compiled_update(state.replace(target_critic_params=params), make_transitions())
    assert all(np.isfinite(metric) for metric in metrics.values())
    return [float(metrics[name]) for name in ("weight", "weight_clipped", "weight_ess")]


def test_weights_are_clipped_and_remain_finite():
    # An advantage of 50 at temperature 10 would weigh exp(500), and one of -50 exp(-500).
    assert metrics_of_advantages_near(50.0) == [100.0, 1.0, 1.0]
    assert metrics_of_advantages_near(50.0, max_weight=1e15) == pytest.approx([1e15, 1.0, 1.0])
    assert metrics_of_advantages_near(-50.0) == [0.0, 0.0, 0.0]


def test_no_bootstrapping_after_a_termination_and_none_left_out_elsewhere(step):
    state, batch, new_state, metrics = step
    ended = batch.masks[:, None] == 0
    elsewhere = np.where(ended, np.float32(7.0), batch.next_observations)
    changed, _ = compiled_update(state, batch.replace(next_observations=elsewhere))
    assert_close(changed.critic.params, new_state.critic.params)
    _, going_on = compiled_update(state, batch.replace(masks=np.ones_like(batch.masks)))
    assert float(going_on["critic_loss"]) != metrics["critic_loss"]


def test_the_cosine_belongs_to_the_actor_alone():
    batch = make_transitions()
    start = make_state(max_steps=10)
    constant = make_state(opt_decay_schedule="none").replace(step=jnp.array(5, jnp.int32))
    full, half, none = (
        compiled_update(state, batch)[0]
        for state in (constant, *(start.replace(step=jnp.array(n, jnp.int32)) for n in (5, 10)))
    )

    def moved(state):
        return jax.tree.map(lambda new, old: new - old, state.actor.params, start.actor.params)

    assert_close(none.actor.params, start.actor.params)
    assert_close(moved(half), jax.tree.map(lambda m: 0.5 * m, moved(full)), atol=1e-7)
    assert_close((none.value.params, none.critic.params), (full.value.params, full.critic.params))
