"""Acting with, and scoring actions under, the Gaussian policy."""

import chex
import jax
import jax.numpy as jnp
from flax.training.train_state import TrainState

from iql_jax.types import Array


def log_prob(means: Array, log_stds: Array, actions: Array) -> jax.Array:
    """Log density of a diagonal Gaussian.

    Args:
        means: [B, action_dim].
        log_stds: Natural logarithm of the standard deviations, [B, action_dim].
        actions: [B, action_dim].

    Returns:
        [B], in nats.
    """
    chex.assert_equal_shape([means, log_stds, actions])
    standardized = (actions - means) * jnp.exp(-log_stds)
    per_dimension = -0.5 * (jnp.square(standardized) + jnp.log(2.0 * jnp.pi)) - log_stds
    return jnp.sum(per_dimension, axis=-1)


@jax.jit
def eval_actions(actor: TrainState, observations: Array) -> jax.Array:
    """The policy's mean actions, inside [-1, 1].

    Args:
        actor: The actor's train state.
        observations: [B, observation_dim].

    Returns:
        [B, action_dim].
    """
    means, _ = actor.apply_fn(actor.params, observations)
    return jnp.clip(means, -1.0, 1.0)


@jax.jit
def sample_actions(actor: TrainState, key: jax.Array, observations: Array) -> jax.Array:
    """Actions drawn from the policy, clipped to [-1, 1]. The key is consumed.

    Args:
        actor: The actor's train state.
        key: A PRNG key, used here and nowhere else.
        observations: [B, observation_dim].

    Returns:
        [B, action_dim].
    """
    means, log_stds = actor.apply_fn(actor.params, observations)
    noise = jax.random.normal(key, means.shape, means.dtype)
    return jnp.clip(means + jnp.exp(log_stds) * noise, -1.0, 1.0)
