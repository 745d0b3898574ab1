"""How the policy learns from Q and V, one function for each way.

An extraction takes the state before the update, a batch and the advantages ``Q'(s, a) - V(s)`` [B],
and returns the actor one step further. Whatever it asks of Q, it asks the target critics.
"""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import optax

from iql_jax import losses
from iql_jax.distributions import Distribution
from iql_jax.state import IQLState
from iql_jax.train_state import TrainState
from iql_jax.types import Array, Metrics, Params, Transitions


class Extraction(Protocol):
    """One gradient step of the actor; the ``dropout_key`` is consumed where there is one."""

    def __call__(
        self,
        state: IQLState,
        batch: Transitions,
        advantages: jax.Array,
        *,
        learning_rate: Array,
        dropout_key: jax.Array | None,
    ) -> tuple[TrainState, Metrics]:
        """The actor after the step, and its metrics."""


def awr(
    state: IQLState,
    batch: Transitions,
    advantages: jax.Array,
    *,
    learning_rate: Array,
    dropout_key: jax.Array | None,
) -> tuple[TrainState, Metrics]:
    """Advantage-weighted regression on the data's actions, IQL's own way (eq. 7)."""
    hp = state.hyperparameters
    weights = losses.advantage_weights(advantages, hp.temperature, hp.max_weight)

    def loss_of(_: Distribution, log_probs: jax.Array) -> tuple[jax.Array, Metrics]:
        return jnp.mean(losses.actor_loss(log_probs, weights)), {}

    actor, metrics = _actor_step(state, batch, loss_of, learning_rate, dropout_key)
    clipped = jnp.mean(weights >= hp.max_weight)
    return actor, {**metrics, "weight": jnp.mean(weights), "weight_clipped": clipped}


def ddpgbc(
    state: IQLState,
    batch: Transitions,
    advantages: jax.Array,
    *,
    learning_rate: Array,
    dropout_key: jax.Array | None,
) -> tuple[TrainState, Metrics]:
    """DDPG+BC: up the critics' gradient, held by the data (https://arxiv.org/abs/2406.09329)."""
    alpha = state.hyperparameters.bc_alpha
    if alpha is None:
        raise ValueError("bc_alpha is None; make the state with extraction='ddpgbc'")

    def min_q(actions: Array) -> jax.Array:
        q_values = state.critic.apply_fn(state.target_critic_params, batch.observations, actions)
        return jnp.min(q_values, axis=0)

    def loss_of(policy: Distribution, log_probs: jax.Array) -> tuple[jax.Array, Metrics]:
        q_values = policy.expected_q(min_q)
        loss = jnp.mean(losses.ddpgbc_loss(q_values, log_probs, alpha))
        return loss, {"policy_q": jnp.mean(q_values)}

    return _actor_step(state, batch, loss_of, learning_rate, dropout_key)


def bc(
    state: IQLState,
    batch: Transitions,
    advantages: jax.Array,
    *,
    learning_rate: Array,
    dropout_key: jax.Array | None,
) -> tuple[TrainState, Metrics]:
    """Behavioural cloning: the likelihood of the data's actions, whatever their advantages."""

    def loss_of(_: Distribution, log_probs: jax.Array) -> tuple[jax.Array, Metrics]:
        return -jnp.mean(log_probs), {}

    return _actor_step(state, batch, loss_of, learning_rate, dropout_key)


EXTRACTIONS: dict[str, Extraction] = {"awr": awr, "ddpgbc": ddpgbc, "bc": bc}


def _actor_step(
    state: IQLState,
    batch: Transitions,
    loss_of: Callable[[Distribution, jax.Array], tuple[jax.Array, Metrics]],
    learning_rate: Array,
    dropout_key: jax.Array | None,
) -> tuple[TrainState, Metrics]:
    """One step down a loss of the policy and its log probabilities [B] of the data's actions."""
    actor = state.actor
    dropout_rate = state.hyperparameters.dropout_rate if state.use_dropout else None
    rngs = None if dropout_key is None else {"dropout": dropout_key}

    def loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        policy = actor.apply_fn(params, batch.observations, dropout_rate, rngs=rngs)
        log_probs = policy.log_prob(batch.actions)
        loss, metrics = loss_of(policy, log_probs)
        return loss, {"log_prob": jnp.mean(log_probs), **policy.describe(), **metrics}

    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(actor.params)
    metrics = {"actor_loss": loss, **metrics, "actor_grad_norm": optax.tree.norm(grads)}
    return actor.apply_gradients(grads=grads, learning_rate=learning_rate), metrics
