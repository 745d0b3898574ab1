"""One gradient step for each network of IQL, as pure functions.

Each takes what it updates and returns it updated, with its metrics. The order in which they are
applied, and which version of each network feeds the others, is written in ``learner.update`` alone.
"""

import jax
import jax.numpy as jnp
import optax

from iql_jax import losses, policy
from iql_jax.train_state import TrainState
from iql_jax.types import Array, Metrics, Params, Transitions


def update_v(
    value: TrainState,
    batch: Transitions,
    target_q: Array,
    *,
    expectile: Array,
    learning_rate: Array,
) -> tuple[TrainState, Metrics]:
    """Move V towards the expectile of ``target_q`` [B], the target critics' minimum (eq. 5)."""

    def loss_fn(params: Params) -> tuple[jax.Array, jax.Array]:
        values = value.apply_fn(params, batch.observations)
        return jnp.mean(losses.value_loss(values, target_q, expectile)), values

    (loss, values), grads = jax.value_and_grad(loss_fn, has_aux=True)(value.params)
    metrics = {
        "value_loss": loss,
        "v": jnp.mean(values),
        "value_grad_norm": optax.tree.norm(grads),
    }
    return value.apply_gradients(grads=grads, learning_rate=learning_rate), metrics


def update_actor(
    actor: TrainState,
    batch: Transitions,
    advantages: Array,
    *,
    temperature: Array,
    max_weight: Array,
    learning_rate: Array,
    dropout_rate: Array | None,
    dropout_key: jax.Array | None,
) -> tuple[TrainState, Metrics]:
    """Regress the policy on the data's actions, weighted by their ``advantages`` [B] (eq. 7).

    With a ``dropout_rate`` the forward pass drops hidden units; the ``dropout_key`` is consumed.
    """
    weights = losses.advantage_weights(advantages, temperature, max_weight)
    rngs = None if dropout_key is None else {"dropout": dropout_key}

    def loss_fn(params: Params) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        means, log_stds = actor.apply_fn(params, batch.observations, dropout_rate, rngs=rngs)
        log_probs = policy.log_prob(means, log_stds, batch.actions)
        return jnp.mean(losses.actor_loss(log_probs, weights)), (log_probs, log_stds)

    (loss, (log_probs, log_stds)), grads = jax.value_and_grad(loss_fn, has_aux=True)(actor.params)
    metrics = {
        "actor_loss": loss,
        "advantage": jnp.mean(advantages),
        "weight": jnp.mean(weights),
        "weight_clipped": jnp.mean(weights >= max_weight),
        "log_prob": jnp.mean(log_probs),
        "policy_std": jnp.mean(jnp.exp(log_stds)),
        "actor_grad_norm": optax.tree.norm(grads),
    }
    return actor.apply_gradients(grads=grads, learning_rate=learning_rate), metrics


def update_q(
    critic: TrainState,
    batch: Transitions,
    next_values: Array,
    *,
    discount: Array,
    learning_rate: Array,
) -> tuple[TrainState, Metrics]:
    """Move every critic towards ``r + discount * mask * next_values`` [B] (eq. 6)."""
    targets = losses.td_targets(batch.rewards, batch.masks, next_values, discount)

    def loss_fn(params: Params) -> tuple[jax.Array, jax.Array]:
        q_values = critic.apply_fn(params, batch.observations, batch.actions)
        return jnp.mean(losses.critic_loss(q_values, targets)), q_values

    (loss, q_values), grads = jax.value_and_grad(loss_fn, has_aux=True)(critic.params)
    metrics = {
        "critic_loss": loss,
        **{f"q{i + 1}": jnp.mean(q) for i, q in enumerate(q_values)},
        "critic_grad_norm": optax.tree.norm(grads),
    }
    return critic.apply_gradients(grads=grads, learning_rate=learning_rate), metrics


def update_target(params: Params, target_params: Params, tau: Array) -> Params:
    """Polyak averaging: ``tau * params + (1 - tau) * target_params``, leaf by leaf."""
    return optax.incremental_update(params, target_params, tau)
