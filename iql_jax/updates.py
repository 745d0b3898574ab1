"""One gradient step of V and of the critics, and the target's average, as pure functions.

Each takes what it updates and returns it updated, with its metrics. What they are fed is written in
``objectives``, and their order in ``learner.update``; the actor's steps are in ``extractions``.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from iql_jax import losses
from iql_jax.train_state import TrainState
from iql_jax.types import Array, Metrics, Params, Transitions


def update_v(
    value: TrainState,
    batch: Transitions,
    target_q: Array,
    *,
    expectile: Array | float,
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
    return _critic_step(
        critic, batch, lambda q: jnp.mean(losses.critic_loss(q, targets)), learning_rate
    )


def update_q_sarsa(
    critic: TrainState,
    batch: Transitions,
    next_q: Array,
    *,
    expectile: Array | None,
    discount: Array,
    learning_rate: Array,
) -> tuple[TrainState, Metrics]:
    """Move every critic towards ``r + discount * mask * next_q``, Q' of the data's next actions.

    By squared errors (eq. 3) where ``expectile`` is None, else by expectile regression (eq. 4).
    Transitions that need a next action and have none are left out.
    """
    if batch.next_action_masks is None:
        raise ValueError("the transitions hold no next actions")
    targets = losses.td_targets(batch.rewards, batch.masks, next_q, discount)
    usable = jnp.maximum(batch.next_action_masks, 1.0 - batch.masks)

    def loss_fn(q_values: jax.Array) -> jax.Array:
        if expectile is None:
            return losses.masked_mean(losses.critic_loss(q_values, targets), usable)
        errors = losses.expectile_critic_loss(q_values, targets, expectile)
        return losses.masked_mean(errors, usable)

    return _critic_step(critic, batch, loss_fn, learning_rate)


def _critic_step(
    critic: TrainState,
    batch: Transitions,
    loss_of: Callable[[jax.Array], jax.Array],
    learning_rate: Array,
) -> tuple[TrainState, Metrics]:
    """One step of the critics down a loss of their Q values [num_critics, B]."""

    def loss_fn(params: Params) -> tuple[jax.Array, jax.Array]:
        q_values = critic.apply_fn(params, batch.observations, batch.actions)
        return loss_of(q_values), q_values

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
