"""The four steps of an update: V, the actor, the critics, the target critics.

Each takes the state and returns it with one network moved; the first three return that network's
metrics too, taken before the network moved. ``learner.update`` puts them in order. Equation numbers
are those of Kostrikov et al. (2021), https://arxiv.org/abs/2110.06169.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from iql_jax.algorithm import losses
from iql_jax.algorithm.state import IQLState
from iql_jax.algorithm.types import Array, Metrics, Params, Transitions


def update_v(
    state: IQLState, batch: Transitions, targets: Array, expectile: Array | float
) -> tuple[IQLState, Metrics]:
    """Moves V(s) towards the ``expectile`` of ``targets`` [B]; those of IQL are Q' (eq. 5)."""
    value = state.value

    def loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        values = value.apply_fn(params, batch.observations)
        loss = jnp.mean(losses.value_loss(values, targets, expectile))
        return loss, {"value_loss": loss, "v": jnp.mean(values)}

    grads, metrics = jax.grad(loss_fn, has_aux=True)(value.params)
    value = value.apply_gradients(grads=grads, learning_rate=state.hyperparameters.value_lr)
    return state.replace(value=value), {**metrics, "value_grad_norm": optax.tree.norm(grads)}


def update_actor(
    state: IQLState, batch: Transitions, advantages: Array
) -> tuple[IQLState, Metrics]:
    """Moves the policy down ``state.actor_loss``, given ``advantages`` Q'(s, a) - V(s), [B].

    'awr' is advantage-weighted regression on the data's actions, the paper's own (eq. 7). 'ddpgbc'
    follows the target critics' gradient, held by the data. 'bc' clones the data's actions.
    """
    hp, actor = state.hyperparameters, state.actor
    dropout = {}
    if state.use_dropout:
        key, dropout_key = jax.random.split(state.key)
        state = state.replace(key=key)
        dropout = {"dropout_rate": hp.dropout_rate, "rngs": {"dropout": dropout_key}}

    def loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        policy = actor.apply_fn(params, batch.observations, **dropout)
        log_probs = policy.log_prob(batch.actions)
        metrics = {"advantage": jnp.mean(advantages), "log_prob": jnp.mean(log_probs)}
        if state.actor_loss == "awr":
            weights = losses.advantage_weights(advantages, hp.temperature, hp.max_weight)
            loss = jnp.mean(losses.awr_loss(log_probs, weights))
            metrics["weight"] = jnp.mean(weights)
            metrics["weight_clipped"] = jnp.mean(weights >= hp.max_weight)
            metrics["weight_ess"] = losses.effective_sample_size(weights)
        elif state.actor_loss == "ddpgbc":
            q_values = policy.expected_q(functools.partial(state.target_q, batch.observations))
            loss = jnp.mean(losses.ddpgbc_loss(q_values, log_probs, hp.alpha))
            metrics["policy_q"] = jnp.mean(q_values)
        else:  # 'bc'
            loss = -jnp.mean(log_probs)
        return loss, {"actor_loss": loss, **metrics, **policy.metrics()}

    grads, metrics = jax.grad(loss_fn, has_aux=True)(actor.params)
    learning_rate = cosine_decay(hp.actor_lr, state.step, hp.actor_decay_steps)
    actor = actor.apply_gradients(grads=grads, learning_rate=learning_rate)
    return state.replace(actor=actor), {**metrics, "actor_grad_norm": optax.tree.norm(grads)}


def mean_squared_errors(q_values: Array, targets: Array) -> jax.Array:
    """The critics' loss of eq. 6: squared errors of Q [num_critics, B], summed over the critics."""
    return jnp.mean(losses.critic_loss(q_values, targets))


def update_q(
    state: IQLState,
    batch: Transitions,
    next_values: Array,
    loss: Callable[[Array, Array], jax.Array] = mean_squared_errors,
) -> tuple[IQLState, Metrics]:
    """Moves every critic towards ``r + discount * mask * next_values`` [B] (eq. 6).

    ``loss`` maps Q values [num_critics, B] and these targets [B] to a scalar.
    """
    hp, critic = state.hyperparameters, state.critic
    targets = losses.td_targets(batch.rewards, batch.masks, next_values, hp.discount)

    def loss_fn(params: Params) -> tuple[jax.Array, Metrics]:
        q_values = critic.apply_fn(params, batch.observations, batch.actions)
        total = loss(q_values, targets)
        means = {f"q{i + 1}": jnp.mean(q) for i, q in enumerate(q_values)}
        return total, {"critic_loss": total, **means}

    grads, metrics = jax.grad(loss_fn, has_aux=True)(critic.params)
    critic = critic.apply_gradients(grads=grads, learning_rate=hp.critic_lr)
    return state.replace(critic=critic), {**metrics, "critic_grad_norm": optax.tree.norm(grads)}


def update_target(state: IQLState) -> IQLState:
    """Moves the target critics towards the critics: ``tau * new + (1 - tau) * old``."""
    params = optax.incremental_update(
        state.critic.params, state.target_critic_params, state.hyperparameters.tau
    )
    return state.replace(target_critic_params=params)


def cosine_decay(learning_rate: Array, step: Array, decay_steps: Array) -> Array:
    """Returns ``learning_rate`` on a half cosine: full at step 0, 0 from ``decay_steps`` on."""
    progress = jnp.minimum(step / decay_steps, 1.0)
    return learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
