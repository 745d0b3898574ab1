import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iql_jax.algorithm import losses


def test_expectile_loss_by_hand():
    errors = jnp.array([2.0, -2.0, 0.5, 0.0])
    np.testing.assert_allclose(
        losses.expectile_loss(errors, 0.9), [0.9 * 4, 0.1 * 4, 0.9 * 0.25, 0.0], rtol=1e-6
    )


def test_expectile_loss_gradient_is_asymmetric():
    # d/du |tau - 1(u<0)| u^2 = 2 |tau - 1(u<0)| u
    gradient = jax.grad(lambda u: jnp.sum(losses.expectile_loss(u, 0.7)))
    np.testing.assert_allclose(
        gradient(jnp.array([3.0, -3.0])), [2 * 0.7 * 3, -2 * 0.3 * 3], rtol=1e-6
    )


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=8),
    st.floats(0.05, 0.95),
)
def test_expectile_loss_mirrors(errors, expectile):
    # The tau-loss of u is the (1-tau)-loss of -u, and half the square at tau 0.5.
    u = np.asarray(errors, np.float32)
    u[np.abs(u) < 1e-3] = 1.0
    np.testing.assert_allclose(
        losses.expectile_loss(u, expectile), losses.expectile_loss(-u, 1 - expectile), rtol=1e-4
    )
    np.testing.assert_allclose(losses.expectile_loss(u, 0.5), 0.5 * u**2, rtol=1e-6)


@pytest.mark.parametrize("expectile", [0.1, 0.5, 0.9])
def test_expectile_loss_is_minimal_at_the_expectile(expectile):
    # Of a fair coin with values 0 and 1 the tau-expectile is tau itself.
    targets = jnp.array([0.0, 1.0])
    candidates = np.linspace(0, 1, 1001)
    mean_losses = [
        float(jnp.mean(losses.expectile_loss(targets - v, expectile))) for v in candidates
    ]
    assert candidates[np.argmin(mean_losses)] == pytest.approx(expectile, abs=2e-3)


def test_value_loss_sign_favours_actions_better_than_v():
    better, worse = losses.value_loss(jnp.array([0.0, 0.0]), jnp.array([1.0, -1.0]), 0.9)
    assert (float(better), float(worse)) == pytest.approx((0.9, 0.1))


def test_td_targets_stop_at_terminations_only():
    targets = losses.td_targets(
        jnp.array([1.0, 1.0]), jnp.array([0.0, 1.0]), jnp.array([10.0, 10.0]), 0.9
    )
    np.testing.assert_allclose(targets, [1.0, 10.0])


def test_critic_loss_sums_over_critics_with_one_gradient_each():
    q_values = jnp.array([[1.0, 2.0], [3.0, 0.0]])
    targets = jnp.array([0.0, 1.0])
    np.testing.assert_allclose(losses.critic_loss(q_values, targets), [1 + 9, 1 + 1])
    q_gradient, target_gradient = jax.grad(
        lambda q, y: jnp.sum(losses.critic_loss(q, y)), argnums=(0, 1)
    )(q_values, targets)
    np.testing.assert_allclose(q_gradient, [[2.0, 2.0], [6.0, -2.0]])
    np.testing.assert_allclose(target_gradient, [0.0, 0.0])


def test_advantage_weights_multiply_and_clip():
    advantages = jnp.array([-1.0, 0.0, 0.2, 5.0])
    np.testing.assert_allclose(
        losses.advantage_weights(advantages, 10.0, 100.0),
        [np.exp(-10), 1.0, np.exp(2.0), 100.0],
        rtol=1e-5,
    )
    np.testing.assert_array_equal(losses.advantage_weights(advantages, 0.0, 100.0), np.ones(4))


def test_the_effective_sample_size_of_equal_weights_is_all_of_them():
    assert float(losses.effective_sample_size(jnp.full(5, 0.3))) == pytest.approx(1.0)
    # One in a hundred that counts.
    assert float(losses.effective_sample_size(jnp.eye(100)[0])) == pytest.approx(0.01)
    for scale in (1e-30, 1.0, 1e30):  # (1 + 3)^2 / (2 (1 + 9))
        shares = losses.effective_sample_size(scale * jnp.array([1.0, 3.0]))
        assert float(shares) == pytest.approx(0.8)
    assert float(losses.effective_sample_size(jnp.zeros(3))) == 0.0
    assert float(losses.effective_sample_size(jnp.full(1_000_000, 1e15))) == pytest.approx(1.0)


def test_actor_loss_has_no_gradient_through_its_weights():
    log_prob_gradient, weight_gradient = jax.grad(
        lambda p, w: jnp.sum(losses.actor_loss(p, w)), argnums=(0, 1)
    )(jnp.array([-1.0, -2.0]), jnp.array([3.0, 4.0]))
    np.testing.assert_allclose(log_prob_gradient, [-3.0, -4.0])
    np.testing.assert_allclose(weight_gradient, [0.0, 0.0])


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (losses.value_loss, (jnp.zeros(3), jnp.zeros((3, 1)), 0.5)),
        (losses.value_loss, (jnp.zeros(3), jnp.zeros(1), 0.5)),
        (losses.td_targets, (jnp.zeros(3), jnp.zeros(3), jnp.zeros(1), 0.5)),
        (losses.critic_loss, (jnp.zeros((2, 3)), jnp.zeros(1))),
        (losses.critic_loss, (jnp.zeros(3), jnp.zeros(3))),
        (losses.actor_loss, (jnp.zeros(3), jnp.zeros((3, 3)))),
        (losses.td_targets, (jnp.zeros(3), jnp.zeros(3), jnp.zeros(3), jnp.zeros((3, 1)))),
        (losses.advantage_weights, (jnp.zeros(3), jnp.zeros((3, 1)), 100.0)),
        (losses.advantage_weights, (jnp.zeros(3), 1.0, jnp.zeros((3, 1)))),
        (losses.ddpgbc_loss, (jnp.zeros(3), jnp.zeros(3), jnp.zeros((3, 1)))),
    ],
)
def test_shapes_that_would_broadcast_are_refused(function, arguments):
    with pytest.raises(AssertionError):
        function(*arguments)


def test_losses_are_elementwise():
    chex.assert_shape(losses.expectile_loss(jnp.zeros((4, 5)), 0.5), (4, 5))
    chex.assert_shape(losses.value_loss(jnp.zeros(4), jnp.zeros(4), 0.5), (4,))
    chex.assert_shape(losses.critic_loss(jnp.zeros((2, 4)), jnp.zeros(4)), (4,))
