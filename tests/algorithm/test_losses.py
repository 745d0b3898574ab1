"""Each loss and its gradient against numbers derived by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iql_jax.algorithm import losses


def gradients(loss, *arguments):
    """The gradients of a loss's sum with respect to each argument."""
    total = lambda *arguments: jnp.sum(loss(*arguments))
    return jax.grad(total, argnums=tuple(range(len(arguments))))(*arguments)


def test_expectile_loss():
    errors = jnp.array([2.0, -2.0, 0.5, 0.0])
    expected = [0.9 * 4, 0.1 * 4, 0.9 * 0.25, 0.0]
    np.testing.assert_allclose(losses.expectile_loss(errors, 0.9), expected, rtol=1e-6)
    np.testing.assert_allclose(losses.expectile_loss(errors, 0.5), errors**2 / 2)
    # d/du |tau - 1(u < 0)| u^2 = 2 |tau - 1(u < 0)| u
    (gradient,) = gradients(lambda u: losses.expectile_loss(u, 0.7), jnp.array([3.0, -3.0]))
    np.testing.assert_allclose(gradient, [2 * 0.7 * 3, -2 * 0.3 * 3], rtol=1e-6)
    assert losses.expectile_loss(jnp.zeros((4, 5)), 0.5).shape == (4, 5)


def test_value_loss_weighs_actions_better_than_v_with_the_expectile():
    values, target_q = jnp.zeros(2), jnp.array([1.0, -2.0])
    loss = losses.value_loss(values, target_q, 0.9)
    np.testing.assert_allclose(loss, [0.9, 0.1 * 4], rtol=1e-6)
    gradient, _ = gradients(lambda v, q: losses.value_loss(v, q, 0.9), values, target_q)
    np.testing.assert_allclose(gradient, [-2 * 0.9, 2 * 0.1 * 2], rtol=1e-6)


def test_td_targets_stop_at_terminations_only():
    targets = losses.td_targets(jnp.ones(2), jnp.array([0.0, 1.0]), jnp.full(2, 10.0), 0.9)
    np.testing.assert_allclose(targets, [1.0, 10.0])


def test_critic_loss_sums_over_critics():
    q_values, targets = jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.array([0.0, 1.0])
    np.testing.assert_allclose(losses.critic_loss(q_values, targets), [1 + 9, 1 + 1])
    q_gradient, target_gradient = gradients(losses.critic_loss, q_values, targets)
    np.testing.assert_allclose(q_gradient, [[2.0, 2.0], [6.0, -2.0]])
    np.testing.assert_array_equal(target_gradient, [0.0, 0.0])


def test_expectile_critic_loss():
    q_values, targets = jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.array([2.0, 1.0])
    # u = [[1, -1], [-1, 1]], weighted 0.9 above and 0.1 below, summed over the critics.
    loss = lambda q, y: losses.expectile_critic_loss(q, y, 0.9)
    np.testing.assert_allclose(loss(q_values, targets), [0.9 + 0.1, 0.1 + 0.9], rtol=1e-6)
    q_gradient, target_gradient = gradients(loss, q_values, targets)
    np.testing.assert_allclose(q_gradient, [[-1.8, 0.2], [0.2, -1.8]], rtol=1e-5)
    np.testing.assert_array_equal(target_gradient, [0.0, 0.0])


def test_masked_mean():
    values = jnp.array([1.0, 10.0, 3.0])
    assert losses.masked_mean(values, jnp.array([1.0, 0.0, 1.0])) == 2.0
    assert losses.masked_mean(values, jnp.zeros(3)) == 0.0


def test_advantage_weights_multiply_and_clip():
    advantages = jnp.array([-1.0, 0.0, 0.2, 5.0])
    weights = losses.advantage_weights(advantages, 10.0, 100.0)
    np.testing.assert_allclose(weights, [np.exp(-10), 1.0, np.exp(2.0), 100.0], rtol=1e-5)
    np.testing.assert_array_equal(losses.advantage_weights(advantages, 0.0, 100.0), np.ones(4))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (jnp.eye(100)[0], 0.01),
        (1e-30 * jnp.array([1.0, 3.0]), 0.8),  # (1 + 3)^2 / (2 (1 + 9)), whatever the scale
        (jnp.zeros(3), 0.0),
        (jnp.full(1_000_000, 1e15), 1.0),
    ],
)
def test_effective_sample_size(weights, expected):
    assert float(losses.effective_sample_size(weights)) == pytest.approx(expected)


def test_awr_loss_has_no_gradient_through_its_weights():
    log_probs, weights = jnp.array([-1.0, -2.0]), jnp.array([3.0, 4.0])
    np.testing.assert_allclose(losses.awr_loss(log_probs, weights), [3.0, 8.0])
    log_prob_gradient, weight_gradient = gradients(losses.awr_loss, log_probs, weights)
    np.testing.assert_allclose(log_prob_gradient, [-3.0, -4.0])
    np.testing.assert_array_equal(weight_gradient, [0.0, 0.0])


def test_ddpgbc_loss_has_no_gradient_through_its_scale():
    q_values, log_probs = jnp.array([1.0, -3.0]), jnp.array([-2.0, -4.0])
    loss = lambda q, p: losses.ddpgbc_loss(q, p, 0.5)
    np.testing.assert_allclose(loss(q_values, log_probs), [-0.5 + 1.0, 1.5 + 2.0], rtol=1e-5)
    q_gradient, log_prob_gradient = gradients(loss, q_values, log_probs)
    np.testing.assert_allclose(q_gradient, [-0.5, -0.5], rtol=1e-5)  # mean|Q| is 2
    np.testing.assert_allclose(log_prob_gradient, [-0.5, -0.5])


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (losses.td_targets, (jnp.zeros(3), jnp.zeros(3), jnp.zeros(3), jnp.zeros((3, 1)))),
        (losses.critic_loss, (jnp.zeros((2, 3)), jnp.zeros(1))),
        (losses.awr_loss, (jnp.zeros(3), jnp.zeros((3, 3)))),
        (losses.ddpgbc_loss, (jnp.zeros(3), jnp.zeros(3), jnp.zeros((3, 1)))),
    ],
)
def test_shapes_that_would_broadcast_are_refused(function, arguments):
    with pytest.raises(AssertionError):
        function(*arguments)
