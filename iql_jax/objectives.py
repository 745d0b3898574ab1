"""How V and Q learn: IQL, and the objectives that led to it, one function each.

All have the same networks. An objective takes the state, a batch and the target critics'
``min_i Q'_i(s, a)`` [B], and returns V and the critics one step further. Equation numbers are those
of Kostrikov et al. (2021), https://arxiv.org/abs/2110.06169.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from iql_jax.state import IQLState
from iql_jax.train_state import TrainState
from iql_jax.types import Array, Metrics, Transitions
from iql_jax.updates import update_q, update_q_sarsa, update_v

_MEAN = 0.5  # The expectile that is the mean.


class Learned(NamedTuple):
    """What an objective has learned from a batch."""

    value: TrainState
    critic: TrainState
    values: jax.Array  # [B], the new V(s), from which advantages are counted.
    metrics: Metrics


Objective = Callable[[IQLState, Transitions, jax.Array], Learned]


def iql(state: IQLState, batch: Transitions, target_q: jax.Array) -> Learned:
    """Implicit Q-Learning: V is an expectile of Q over the data's actions (eqs. 5 and 6)."""
    hp = state.hyperparameters
    value, value_metrics = update_v(
        state.value, batch, target_q, expectile=hp.expectile, learning_rate=hp.value_lr
    )
    # One pass of the new V over both observations is faster than two.
    both = jnp.concatenate([batch.observations, batch.next_observations])
    values, next_values = jnp.split(value.apply_fn(value.params, both), 2)
    critic, critic_metrics = update_q(
        state.critic, batch, next_values, discount=hp.discount, learning_rate=hp.critic_lr
    )
    return Learned(value, critic, values, {**value_metrics, **critic_metrics})


def sarsa(state: IQLState, batch: Transitions, target_q: jax.Array) -> Learned:
    """SARSA: the value of the policy that made the data (eq. 3); V is the mean of Q."""
    return _sarsa(state, batch, target_q, value_expectile=_MEAN, critic_expectile=None)


def expectile_sarsa(state: IQLState, batch: Transitions, target_q: jax.Array) -> Learned:
    """Expectile regression on the TD error itself (eq. 4); V is the same expectile of Q.

    In a deterministic environment it agrees with IQL. In a stochastic one its expectile is over
    next states too, so that it counts on luck.
    """
    expectile = state.hyperparameters.expectile
    return _sarsa(state, batch, target_q, value_expectile=expectile, critic_expectile=expectile)


def q_learning(state: IQLState, batch: Transitions, target_q: jax.Array) -> Learned:
    """Q-learning: the maximum over actions, also those that the data never show (eq. 1).

    Of continuous actions it is the maximum over some that are drawn, see ``create_state``. V is
    regressed on the maximum; ``target_q`` does not count.
    """
    hp = state.hyperparameters
    # Folded, not split: the state's key goes on as it does for the other objectives.
    key = jax.random.fold_in(jax.random.fold_in(state.key, _Q_LEARNING_STREAM), state.step)
    now_key, next_key = jax.random.split(key)
    value, value_metrics = update_v(
        state.value,
        batch,
        max_q(state, batch.observations, now_key),
        expectile=_MEAN,
        learning_rate=hp.value_lr,
    )
    critic, critic_metrics = update_q(
        state.critic,
        batch,
        max_q(state, batch.next_observations, next_key),
        discount=hp.discount,
        learning_rate=hp.critic_lr,
    )
    values = value.apply_fn(value.params, batch.observations)
    return Learned(value, critic, values, {**value_metrics, **critic_metrics})


OBJECTIVES: dict[str, Objective] = {
    "iql": iql,
    "sarsa": sarsa,
    "expectile_sarsa": expectile_sarsa,
    "q_learning": q_learning,
}

NEEDS_NEXT_ACTIONS = ("sarsa", "expectile_sarsa")

_Q_LEARNING_STREAM = 0x51


def max_q(state: IQLState, observations: Array, key: jax.Array) -> jax.Array:
    """The maximum over candidate actions of the target critics' minimum, [B]. Consumes the key."""
    policy = state.actor.apply_fn(state.actor.params, observations)
    candidates = policy.candidates(key, state.max_actions, state.max_over)

    def min_q(actions: jax.Array) -> jax.Array:
        q_values = state.critic.apply_fn(state.target_critic_params, observations, actions)
        return jnp.min(q_values, axis=0)

    return jnp.max(jax.vmap(min_q)(candidates), axis=0)


def _sarsa(
    state: IQLState,
    batch: Transitions,
    target_q: jax.Array,
    *,
    value_expectile: Array | float,
    critic_expectile: Array | None,
) -> Learned:
    """Q learns from Q' of the data's next actions; V from Q."""
    if batch.next_actions is None:
        raise ValueError(f"the objective {state.objective!r} needs transitions with next actions")
    hp = state.hyperparameters
    value, value_metrics = update_v(
        state.value, batch, target_q, expectile=value_expectile, learning_rate=hp.value_lr
    )
    next_q = state.critic.apply_fn(
        state.target_critic_params, batch.next_observations, batch.next_actions
    )
    critic, critic_metrics = update_q_sarsa(
        state.critic,
        batch,
        jnp.min(next_q, axis=0),
        expectile=critic_expectile,
        discount=hp.discount,
        learning_rate=hp.critic_lr,
    )
    values = value.apply_fn(value.params, batch.observations)
    return Learned(value, critic, values, {**value_metrics, **critic_metrics})
