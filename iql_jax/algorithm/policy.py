"""Acting with the policy."""

import jax

from iql_jax.algorithm.state import TrainState
from iql_jax.algorithm.types import Array


@jax.jit
def eval_actions(actor: TrainState, observations: Array) -> jax.Array:
    """The policy's most likely actions: a Gaussian's mean inside [-1, 1], or one-hot choices.

    Maps [B, observation_dim] to [B, action_dim].
    """
    return actor.apply_fn(actor.params, observations).mode()


@jax.jit
def sample_actions(actor: TrainState, key: jax.Array, observations: Array) -> jax.Array:
    """Actions sampled from the policy, clipped to [-1, 1] or one-hot. Consumes the key.

    Maps [B, observation_dim] to [B, action_dim].
    """
    return actor.apply_fn(actor.params, observations).sample(key)
