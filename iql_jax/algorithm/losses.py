"""The equations of Implicit Q-Learning: arrays in, arrays out.

Equation numbers are those of Kostrikov et al., "Offline Reinforcement Learning with Implicit
Q-Learning" (2021), https://arxiv.org/abs/2110.06169. A loss returns one number per sample; the
caller averages. Nothing broadcasts silently: arrays of unequal shapes, and arrays in the place of
scalars, raise an AssertionError.
"""

import chex
import jax
import jax.numpy as jnp

from iql_jax.algorithm.types import Array


def expectile_loss(errors: Array, expectile: Array | float) -> jax.Array:
    """The asymmetric squared error ``|expectile - 1(u < 0)| * u**2`` (equation 4).

    Its minimizer over a constant is the ``expectile``-expectile of the targets: their mean at 0.5,
    and ever closer to their maximum as ``expectile`` goes to 1.

    Args:
        errors: ``u = target - prediction``, any shape.
        expectile: Scalar in (0, 1).

    Returns:
        The loss of each element, in the shape of ``errors``.
    """
    chex.assert_rank(expectile, 0)
    weights = jnp.where(errors < 0, 1.0 - expectile, expectile)
    return weights * jnp.square(errors)


def value_loss(values: Array, target_q: Array, expectile: Array | float) -> jax.Array:
    """Expectile regression of V towards the target critics' Q (equation 5).

    Args:
        values: ``V(s)``, [B].
        target_q: ``min_i Q'_i(s, a)`` of the data's actions, [B].
        expectile: Scalar in (0, 1), the paper's tau.

    Returns:
        [B], with ``u = Q - V``: actions better than V have the weight ``expectile``.
    """
    chex.assert_rank([values, target_q], 1)
    chex.assert_equal_shape([values, target_q])
    return expectile_loss(target_q - values, expectile)


def td_targets(rewards: Array, masks: Array, next_values: Array, discount: Array | float) -> Array:
    """One-step targets ``r + discount * mask * V(s')`` (equation 6); all arrays [B]."""
    chex.assert_rank([rewards, masks, next_values], 1)
    chex.assert_equal_shape([rewards, masks, next_values])
    chex.assert_rank(discount, 0)
    return rewards + discount * masks * next_values


def critic_loss(q_values: Array, targets: Array) -> jax.Array:
    """Squared TD errors, *summed* over the critics (equation 6).

    Args:
        q_values: ``Q_i(s, a)``, [num_critics, B].
        targets: [B]; no gradient flows into them.

    Returns:
        [B]. The sum, not the mean: each critic has the gradient it would have on its own.
    """
    chex.assert_rank([q_values, targets], [2, 1])
    chex.assert_equal_shape_suffix([q_values, targets], 1)
    return jnp.sum(jnp.square(q_values - jax.lax.stop_gradient(targets)[None]), axis=0)


def expectile_critic_loss(q_values: Array, targets: Array, expectile: Array | float) -> jax.Array:
    """Expectile regression of Q on its own TD targets, summed over the critics (equation 4).

    With targets ``r + discount * Q'(s', a')`` the expectile is over next actions and over next
    states alike, so in a stochastic environment it also rewards luck.

    Args:
        q_values: ``Q_i(s, a)``, [num_critics, B].
        targets: [B]; no gradient flows into them.
        expectile: Scalar in (0, 1).

    Returns:
        [B]. At 0.5 it is half of ``critic_loss``.
    """
    chex.assert_rank([q_values, targets], [2, 1])
    chex.assert_equal_shape_suffix([q_values, targets], 1)
    errors = jax.lax.stop_gradient(targets)[None] - q_values
    return jnp.sum(expectile_loss(errors, expectile), axis=0)


def masked_mean(losses: Array, masks: Array) -> jax.Array:
    """The mean of ``losses`` [B] where ``masks`` [B] are 1; 0 where none is."""
    chex.assert_rank([losses, masks], 1)
    chex.assert_equal_shape([losses, masks])
    return jnp.sum(losses * masks) / jnp.maximum(jnp.sum(masks), 1.0)


def advantage_weights(
    advantages: Array, temperature: Array | float, max_weight: Array | float
) -> jax.Array:
    """Weights ``min(exp(temperature * A), max_weight)`` of equation 7.

    Args:
        advantages: ``A = Q(s, a) - V(s)``, [B].
        temperature: The paper's beta. It *multiplies* the advantage, as in the official
            implementation: an inverse temperature. At 0 all weights are 1, which clones behavior.
        max_weight: Upper clip of a weight; 100 in the paper.
    """
    chex.assert_rank([advantages, temperature, max_weight], [1, 0, 0])
    return jnp.minimum(jnp.exp(temperature * advantages), max_weight)


def effective_sample_size(weights: Array) -> jax.Array:
    """Kish's effective sample size of N weights as a share of N: ``(sum w)^2 / (N sum w^2)``.

    It is 1 if all weights [N] are equal, 1 / N if only one is not 0, and 0 if all are.
    """
    chex.assert_rank(weights, 1)
    largest = jnp.max(weights)
    scaled = weights / jnp.where(largest > 0, largest, 1.0)  # Squares are within float32's range.
    squares = jnp.maximum(jnp.sum(jnp.square(scaled)), jnp.finfo(jnp.float32).tiny)
    return jnp.square(jnp.sum(scaled)) / squares / weights.size


def awr_loss(log_probs: Array, weights: Array) -> Array:
    """Advantage-weighted regression ``-w * log pi(a|s)`` (equation 7); all arrays [B].

    No gradient flows into the weights.
    """
    chex.assert_rank([log_probs, weights], 1)
    chex.assert_equal_shape([log_probs, weights])
    return -jax.lax.stop_gradient(weights) * log_probs


def ddpgbc_loss(q_values: Array, log_probs: Array, alpha: Array | float) -> Array:
    """``-Q(s, pi(s)) / mean|Q| - alpha * log pi(a|s)``, both terms to be maximized.

    From Park et al., "Is Value Learning Really the Main Bottleneck in Offline RL?" (2024),
    https://arxiv.org/abs/2406.09329. The division makes ``alpha`` independent of the
    scale of the rewards.

    Args:
        q_values: Of the policy's actions, [B].
        log_probs: Of the data's actions, [B].
        alpha: Scalar, the weight of cloning the data.

    Returns:
        [B]. No gradient flows through the mean.
    """
    chex.assert_rank([q_values, log_probs, alpha], [1, 1, 0])
    chex.assert_equal_shape([q_values, log_probs])
    scale = jax.lax.stop_gradient(jnp.mean(jnp.abs(q_values))) + 1e-6
    return -q_values / scale - alpha * log_probs
