"""One gradient step of V and of the critics, and the target's average, as pure functions.

Each takes what it updates and returns it updated, with its metrics. What they are fed is written in
``objectives``, and their order in ``learner.update``; the actor's steps are in ``extractions``.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from iql_jax.algorithm import losses
from iql_jax.algorithm.train_state import TrainState
from iql_jax.algorithm.types import Array, Metrics, Params, Transitions


def update_v(
    value: TrainState,
    batch: Transitions,
    targets: Array,
    *,
    expectile: Array | float,
    learning_rate: Array,
) -> tuple[TrainState, Metrics]:
    """Move V towards the expectile of ``targets`` [B]: IQL's are Q' (eq. 5)."""

    def loss_fn(params: Params) -> tuple[jax.Array, jax.Array]:
        values = value.apply_fn(params, batch.observations)
        return jnp.mean(losses.value_loss(values, targets, expectile)), values

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
    loss: Callable[[jax.Array, Array], jax.Array],
    discount: Array,
    learning_rate: Array,
) -> tuple[TrainState, Metrics]:
    """Move every critic towards ``r + discount * mask * next_values`` [B] (eq. 6).

    ``loss`` is a scalar, of Q values [num_critics, B] and these targets.
    """
    targets = losses.td_targets(batch.rewards, batch.masks, next_values, discount)

    def loss_fn(params: Params) -> tuple[jax.Array, jax.Array]:
        q_values = critic.apply_fn(params, batch.observations, batch.actions)
        return loss(q_values, targets), q_values

    (total, q_values), grads = jax.value_and_grad(loss_fn, has_aux=True)(critic.params)
    metrics = {
        "critic_loss": total,
        **{f"q{i + 1}": jnp.mean(q) for i, q in enumerate(q_values)},
        "critic_grad_norm": optax.tree.norm(grads),
    }
    return critic.apply_gradients(grads=grads, learning_rate=learning_rate), metrics


def update_target(params: Params, target_params: Params, tau: Array) -> Params:
    """Polyak averaging: ``tau * params + (1 - tau) * target_params``, leaf by leaf."""
    return optax.incremental_update(params, target_params, tau)
