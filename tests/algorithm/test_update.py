"""One test for each way in which implementations of IQL are known to deviate from the official one.

Every expected number is computed here from the networks' forward passes alone.
"""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_state, make_transitions

from iql_jax.algorithm import networks
from iql_jax.algorithm.distributions import Gaussian
from iql_jax.algorithm.learner import Hyperparameters, create_state, update

HYPERPARAMETERS = {"expectile": 0.8, "temperature": 2.0, "discount": 0.9, "tau": 0.25}


@pytest.fixture(scope="module")
def step():
    """A state, a batch, and the state and metrics after one update with large learning rates.

    Large, so that new and old networks differ well beyond rounding.
    """
    state = make_state(actor_lr=0.1, value_lr=0.1, critic_lr=0.1, **HYPERPARAMETERS)
    batch = make_transitions()
    new_state, metrics = jax.jit(update)(state, batch)
    return state, batch, new_state, {name: float(m) for name, m in metrics.items()}


def value(params, state, observations):
    return np.asarray(state.value.apply_fn(params, observations), np.float64)


def min_q(params, state, batch):
    q_values = state.critic.apply_fn(params, batch.observations, batch.actions)
    return np.min(np.asarray(q_values, np.float64), axis=0)


def test_v_regresses_on_the_target_critics_minimum(step):
    state, batch, _, metrics = step
    u = min_q(state.target_critic_params, state, batch) - value(
        state.value.params, state, batch.observations
    )
    assert metrics["value_loss"] == pytest.approx(np.mean(np.abs(0.8 - (u < 0)) * u**2), rel=1e-5)


def test_advantage_uses_target_critics_and_new_v(step):
    state, batch, new_state, metrics = step
    new_v = value(new_state.value.params, state, batch.observations)
    old_v = value(state.value.params, state, batch.observations)
    target, online, moved_target = (
        min_q(params, state, batch)
        for params in (
            state.target_critic_params,
            state.critic.params,
            new_state.target_critic_params,
        )
    )
    advantage = float(metrics["advantage"])
    assert advantage == pytest.approx(np.mean(target - new_v), rel=1e-5)
    for wrong in (target - old_v, online - new_v, moved_target - new_v):
        assert abs(advantage - np.mean(wrong)) > 0.01


def test_actor_loss_weighs_log_probabilities_by_clipped_exponential_advantage(step):
    state, batch, new_state, metrics = step
    advantages = min_q(state.target_critic_params, state, batch) - value(
        new_state.value.params, state, batch.observations
    )
    means, log_stds = state.actor.apply_fn(state.actor.params, batch.observations)
    means, stds = np.asarray(means, np.float64), np.exp(np.asarray(log_stds, np.float64))
    log_probs = np.sum(
        -0.5 * ((batch.actions - means) / stds) ** 2 - np.log(stds) - 0.5 * np.log(2 * np.pi),
        axis=1,
    )
    weights = np.minimum(np.exp(2.0 * advantages), 100.0)
    assert metrics["actor_loss"] == pytest.approx(-np.mean(weights * log_probs), rel=1e-5)


def test_critic_target_uses_new_v_and_the_loss_sums_over_critics(step):
    state, batch, new_state, metrics = step

    def loss(value_params, reduce):
        next_values = value(value_params, state, batch.next_observations)
        targets = batch.rewards + 0.9 * batch.masks * next_values
        q = state.critic.apply_fn(state.critic.params, batch.observations, batch.actions)
        return np.mean(reduce((np.asarray(q) - targets) ** 2, axis=0))

    critic_loss = float(metrics["critic_loss"])
    assert critic_loss == pytest.approx(loss(new_state.value.params, np.sum), rel=1e-5)
    assert abs(critic_loss - loss(state.value.params, np.sum)) > 0.01
    assert abs(critic_loss - loss(new_state.value.params, np.mean)) > 0.01


def test_target_moves_last_towards_the_new_critics(step):
    state, _, new_state, _ = step
    for target, new, old_target in zip(
        jax.tree.leaves(new_state.target_critic_params),
        jax.tree.leaves(new_state.critic.params),
        jax.tree.leaves(state.target_critic_params),
        strict=True,
    ):
        np.testing.assert_allclose(target, 0.25 * new + 0.75 * old_target, atol=1e-6)


def test_target_starts_equal_to_the_critics_in_buffers_of_its_own():
    state = create_state(jax.random.key(0), 3, 2, hidden_dims=(4,))
    for target, online in zip(
        jax.tree.leaves(state.target_critic_params),
        jax.tree.leaves(state.critic.params),
        strict=True,
    ):
        np.testing.assert_array_equal(target, online)
        assert target.unsafe_buffer_pointer() != online.unsafe_buffer_pointer()


def metrics_of_advantages_near(advantage, **hyperparameters):
    """What an update reports where the target critics' last biases make all advantages so."""
    state = make_state(temperature=10.0, **hyperparameters)
    shifted = jax.tree.map(lambda x: x, state.target_critic_params)
    for name in ("q1", "q2"):
        shifted["params"][name]["out"]["bias"] = jnp.full((1,), advantage)
    return jax.jit(update)(state.replace(target_critic_params=shifted), make_transitions())[1]


def test_weights_are_clipped_at_100():
    # An advantage of 50 at temperature 10 would weigh exp(500).
    metrics = metrics_of_advantages_near(50.0)
    assert float(metrics["weight"]) == 100.0
    assert float(metrics["weight_clipped"]) == 1.0
    assert float(metrics["weight_ess"]) == 1.0


def test_weights_that_vanish_are_no_numbers_out_of_range():
    # exp(-500) is 0 in float32: nothing is learned, and nothing has diverged.
    metrics = metrics_of_advantages_near(-50.0)
    assert float(metrics["weight"]) == 0.0
    assert float(metrics["weight_ess"]) == 0.0
    chex.assert_tree_all_finite(metrics)


def test_the_largest_clip_is_no_number_out_of_range():
    metrics = metrics_of_advantages_near(50.0, max_weight=1e15)
    assert float(metrics["weight"]) == pytest.approx(1e15)
    assert float(metrics["weight_ess"]) == pytest.approx(1.0)
    chex.assert_tree_all_finite(metrics)


def test_no_bootstrapping_after_a_termination(step):
    state, batch, _, _ = step
    changed = batch.replace(
        next_observations=np.where(batch.masks[:, None] == 0, 7.0, batch.next_observations).astype(
            np.float32
        )
    )
    before, after = (jax.jit(update)(state, b)[0].critic.params for b in (batch, changed))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    everywhere = batch.replace(masks=np.ones_like(batch.masks))
    moved = jax.jit(update)(state, everywhere)[1]["critic_loss"]
    assert float(moved) != float(step[3]["critic_loss"])


def test_tanh_on_the_mean_but_no_squashing_of_the_density():
    network = networks.GaussianPolicy((8,), 2)
    observations = jax.random.normal(jax.random.key(0), (4, 3))
    params = network.init(jax.random.key(1), observations)
    params["params"]["mean"]["bias"] = jnp.array([5.0, -5.0])
    means, log_stds = network.apply(params, observations)
    hidden = jax.nn.relu(observations @ params["params"]["hidden_0"]["kernel"])
    kernel = params["params"]["mean"]["kernel"]
    expected = np.tanh(np.asarray(hidden @ kernel) + np.array([[5.0, -5.0]]))
    np.testing.assert_allclose(means, expected, atol=1e-6)
    # A plain Gaussian: the density at the mean is (2 pi)^(-d/2) whatever the mean.
    np.testing.assert_allclose(
        Gaussian(means, log_stds).log_prob(means), -np.log(2 * np.pi), rtol=1e-6
    )


def test_cosine_belongs_to_the_actor_alone():
    batch = make_transitions()
    constant = make_state(actor_decay_steps=None)
    at_the_end = make_state(actor_decay_steps=10).replace(step=jnp.array(10, jnp.int32))
    halfway = make_state(actor_decay_steps=10).replace(step=jnp.array(5, jnp.int32))
    start = constant.actor.params
    full, half, none = (jax.jit(update)(s, batch)[0] for s in (constant, halfway, at_the_end))

    def moved(state):
        return jax.tree.map(lambda new, old: np.asarray(new - old), state.actor.params, start)

    jax.tree.map(lambda m: np.testing.assert_array_equal(m, 0.0), moved(none))
    jax.tree.map(
        lambda h, f: np.testing.assert_allclose(h, 0.5 * f, atol=1e-7), moved(half), moved(full)
    )
    for network in ("value", "critic"):
        jax.tree.map(
            np.testing.assert_array_equal,
            getattr(full, network).params,
            getattr(none, network).params,
        )


def test_each_network_has_its_own_adam(step):
    _, _, new_state, _ = step
    for network in (new_state.actor, new_state.critic, new_state.value):
        assert int(network.opt_state.count) == 1
        assert jax.tree.structure(network.opt_state.mu) == jax.tree.structure(network.params)


def test_adam_by_hand():
    # At its first step Adam moves every weight by the rate, against the sign of its gradient.
    state = make_state(value_lr=0.01)
    new_state, _ = jax.jit(update)(state, make_transitions())
    moved = np.concatenate(
        [
            np.ravel(new - old)
            for new, old in zip(
                jax.tree.leaves(new_state.value.params),
                jax.tree.leaves(state.value.params),
                strict=True,
            )
        ]
    )
    active = moved[np.abs(moved) > 1e-4]
    assert len(active) > 50
    np.testing.assert_allclose(np.abs(active), 0.01, rtol=1e-2)


def test_metrics_are_flat_scalars(step):
    metrics = step[3]
    assert {"value_loss", "critic_loss", "actor_loss", "v", "q1", "q2", "advantage"} <= set(metrics)
    assert {"weight_clipped", "weight_ess", "log_prob", "policy_std"} <= set(metrics)
    assert "actor_grad_norm" in metrics
    shapes = jax.eval_shape(update, make_state(), make_transitions())[1]
    assert all(metric.shape == () for metric in shapes.values())


def test_every_number_of_the_learner_is_traced():
    structure = {"key", "observation_dim", "action_dim", "hidden_dims", "num_critics", "layer_norm"}
    structure |= {"discrete_actions", "objective", "actor_loss", "max_actions", "max_over"}
    numbers = set(inspect.signature(create_state).parameters) - structure
    assert set(Hyperparameters.__dataclass_fields__) == numbers
