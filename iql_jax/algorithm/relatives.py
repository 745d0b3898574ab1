"""SARSA, expectile SARSA and Q-learning: objectives that led to IQL, each an update of its own.

Each has the signature of ``learner.update``, and takes the steps of ``updates`` with other targets.
Equation numbers are those of Kostrikov et al. (2021), https://arxiv.org/abs/2110.06169.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from iql_jax.algorithm import losses
from iql_jax.algorithm.state import IQLState
from iql_jax.algorithm.types import Array, Metrics, Transitions
from iql_jax.algorithm.updates import update_actor, update_q, update_target, update_v

_MEAN = 0.5  # The expectile that is the mean.
_Q_LEARNING_STREAM = 0x51


def sarsa(state: IQLState, batch: Transitions) -> tuple[IQLState, Metrics]:
    """SARSA: Q and V are the values of the policy that made the data (eq. 3).

    Raises:
        ValueError: If the batch holds no next actions.
    """
    return _update_on_next_actions(state, batch, _MEAN, losses.critic_loss)


def expectile_sarsa(state: IQLState, batch: Transitions) -> tuple[IQLState, Metrics]:
    """Expectile regression on the TD error itself (eq. 4).

    In a deterministic environment it agrees with IQL. In a stochastic one its expectile is over
    next states too, so it counts on luck.

    Raises:
        ValueError: If the batch holds no next actions.
    """
    expectile = state.hyperparameters.expectile
    loss = functools.partial(losses.expectile_critic_loss, expectile=expectile)
    return _update_on_next_actions(state, batch, expectile, loss)


def q_learning(state: IQLState, batch: Transitions) -> tuple[IQLState, Metrics]:
    """Q-learning: a maximum over actions, also those that the data never show (eq. 1)."""
    # Folded, not split: the state's key is the same as after an update of another objective.
    key = jax.random.fold_in(jax.random.fold_in(state.key, _Q_LEARNING_STREAM), state.step)
    value_key, critic_key = jax.random.split(key)
    target_q = state.target_q(batch.observations, batch.actions)
    max_q = _max_target_q(state, batch.observations, value_key)
    next_max_q = _max_target_q(state, batch.next_observations, critic_key)

    state, value_metrics = update_v(state, batch, max_q, _MEAN)
    state, actor_metrics = update_actor(state, batch, target_q - state.v(batch.observations))
    state, critic_metrics = update_q(state, batch, next_max_q)
    state = update_target(state)
    metrics = {**value_metrics, **actor_metrics, **critic_metrics}
    return state.replace(step=state.step + 1), metrics


def _update_on_next_actions(
    state: IQLState,
    batch: Transitions,
    expectile: Array | float,
    critic_loss: Callable[[Array, Array], jax.Array],
) -> tuple[IQLState, Metrics]:
    """Critics move towards ``r + discount * mask * Q'(s', a')``, a' from the data; V towards Q'.

    The critics pass over transitions that need a next action and have none: where data end.
    """
    if batch.next_actions is None or batch.next_action_masks is None:
        raise ValueError(f"the objective {state.objective!r} needs transitions with next actions")
    target_q = state.target_q(batch.observations, batch.actions)
    next_q = state.target_q(batch.next_observations, batch.next_actions)
    usable = jnp.maximum(batch.next_action_masks, 1.0 - batch.masks)

    def loss(q_values: Array, targets: Array) -> jax.Array:
        return losses.masked_mean(critic_loss(q_values, targets), usable)

    state, value_metrics = update_v(state, batch, target_q, expectile)
    state, actor_metrics = update_actor(state, batch, target_q - state.v(batch.observations))
    state, critic_metrics = update_q(state, batch, next_q, loss)
    state = update_target(state)
    metrics = {**value_metrics, **actor_metrics, **critic_metrics}
    return state.replace(step=state.step + 1), metrics


def _max_target_q(state: IQLState, observations: Array, key: jax.Array) -> jax.Array:
    """``max_a min_i Q'_i(s, a)`` over all discrete or some drawn actions, [B]. Consumes the key."""
    policy = state.actor.apply_fn(state.actor.params, observations)
    candidates = policy.candidates(key, state.max_actions, state.max_over)
    q_values = jax.vmap(functools.partial(state.target_q, observations))(candidates)
    return jnp.max(q_values, axis=0)


UPDATES: dict[str, Callable[[IQLState, Transitions], tuple[IQLState, Metrics]]] = {
    "sarsa": sarsa,
    "expectile_sarsa": expectile_sarsa,
    "q_learning": q_learning,
}
"""The update of each ``AgentConfig.objective`` other than 'iql'."""
