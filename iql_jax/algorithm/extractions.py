"""How the policy learns from Q and V: a loss for each way, and the step that is theirs in common.

Whatever a loss asks of Q, it asks the target critics. Equation numbers are those of Kostrikov et
al. (2021), https://arxiv.org/abs/2110.06169.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from iql_jax.algorithm import losses
from iql_jax.algorithm.distributions import Distribution
from iql_jax.algorithm.state import IQLState
from iql_jax.algorithm.train_state import TrainState
from iql_jax.algorithm.types import Array, Metrics, Params, Transitions


class Given(NamedTuple):
    """What a loss of the actor may be made of.

    Attributes:
        state: The state before the update.
        batch: B transitions.
        advantages: ``Q'(s, a) - V(s)``, [B].
        policy: The actor's distributions over actions, of the batch's observations.
        log_probs: Of the data's actions under it, [B].
    """

    state: IQLState
    batch: Transitions
    advantages: jax.Array
    policy: Distribution
    log_probs: jax.Array


ActorLoss = Callable[[Given], tuple[jax.Array, Metrics]]
"""The actor's scalar loss, and the metrics specific to it."""


def awr(given: Given) -> tuple[jax.Array, Metrics]:
    """Advantage-weighted regression on the data's actions, IQL's own way (eq. 7)."""
    hp = given.state.hyperparameters
    weights = losses.advantage_weights(given.advantages, hp.temperature, hp.max_weight)
    metrics = {
        "weight": jnp.mean(weights),
        "weight_clipped": jnp.mean(weights >= hp.max_weight),
        "weight_ess": losses.effective_sample_size(weights),
    }
    return jnp.mean(losses.actor_loss(given.log_probs, weights)), metrics


def ddpgbc(given: Given) -> tuple[jax.Array, Metrics]:
    """DDPG+BC: up the critics' gradient, held by the data (https://arxiv.org/abs/2406.09329)."""
    state, observations = given.state, given.batch.observations
    alpha = state.hyperparameters.alpha
    if alpha is None:
        raise ValueError("alpha is None; make the state with actor_loss='ddpgbc'")
    q_values = given.policy.expected_q(functools.partial(state.target_q, observations))
    loss = jnp.mean(losses.ddpgbc_loss(q_values, given.log_probs, alpha))
    return loss, {"policy_q": jnp.mean(q_values)}


def bc(given: Given) -> tuple[jax.Array, Metrics]:
    """Behavioural cloning: the likelihood of the data's actions, whatever their advantages."""
    return -jnp.mean(given.log_probs), {}


EXTRACTIONS: dict[str, ActorLoss] = {"awr": awr, "ddpgbc": ddpgbc, "bc": bc}


def update_actor(
    state: IQLState,
    batch: Transitions,
    advantages: jax.Array,
    *,
    learning_rate: Array,
    dropout_key: jax.Array | None,
) -> tuple[TrainState, Metrics]:
    """One gradient step of the actor down the loss of the state's extraction.

    Args:
        state: The state before the update.
        batch: B transitions.
        advantages: ``Q'(s, a) - V(s)``, [B].
        learning_rate: Of this step.
        dropout_key: Consumed where there is one.

    Returns:
        The actor one step further, and its metrics.
    """
    actor, loss_of = state.actor, EXTRACTIONS[state.actor_loss]
    dropout_rate = state.hyperparameters.dropout_rate if state.use_dropout else None
    rngs = None if dropout_key is None else {"dropout": dropout_key}

    def loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        policy = actor.apply_fn(params, batch.observations, dropout_rate, rngs=rngs)
        log_probs = policy.log_prob(batch.actions)
        loss, metrics = loss_of(Given(state, batch, advantages, policy, log_probs))
        return loss, {"log_prob": jnp.mean(log_probs), **policy.describe(), **metrics}

    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(actor.params)
    metrics = {"actor_loss": loss, **metrics, "actor_grad_norm": optax.tree.norm(grads)}
    return actor.apply_gradients(grads=grads, learning_rate=learning_rate), metrics
