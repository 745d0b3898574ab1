"""How V and Q learn: IQL, and the objectives that led to it, two functions each.

All have the same networks; what an objective says is what V and the critics are moved towards, and
by which loss. ``learner.update`` calls its two functions in turn. Equation numbers are those of
Kostrikov et al. (2021), https://arxiv.org/abs/2110.06169.
"""

import functools
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from iql_jax.state import IQLState
from iql_jax.train_state import TrainState
from iql_jax.types import Array, Metrics, Transitions
from iql_jax.updates import update_q, update_q_sarsa, update_v

_MEAN = 0.5  # The expectile that is the mean.


class ValueStep(Protocol):
    """One gradient step of V; ``target_q`` [B] is ``min_i Q'_i(s, a)`` of the target critics."""

    def __call__(
        self, state: IQLState, batch: Transitions, target_q: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """V after the step, and its metrics."""


class CriticStep(Protocol):
    """One gradient step of the critics; ``next_values`` [B] is the new V of the next states."""

    def __call__(
        self, state: IQLState, batch: Transitions, next_values: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """The critics after the step, and their metrics."""


class Objective(NamedTuple):
    """What V and the critics learn; the state that they are given is that before the update."""

    update_value: ValueStep
    update_critic: CriticStep


# Implicit Q-Learning: V is an expectile of Q over the data's actions (eqs. 5 and 6).


def iql_value(
    state: IQLState, batch: Transitions, target_q: jax.Array
) -> tuple[TrainState, Metrics]:
    """Move V towards the expectile of Q'."""
    hp = state.hyperparameters
    return update_v(state.value, batch, target_q, expectile=hp.expectile, learning_rate=hp.value_lr)


def iql_critic(
    state: IQLState, batch: Transitions, next_values: jax.Array
) -> tuple[TrainState, Metrics]:
    """Move the critics towards ``r + discount * mask * V(s')``."""
    hp = state.hyperparameters
    return update_q(
        state.critic, batch, next_values, discount=hp.discount, learning_rate=hp.critic_lr
    )


# SARSA: the value of the policy that made the data (eq. 3).


def mean_value(
    state: IQLState, batch: Transitions, target_q: jax.Array
) -> tuple[TrainState, Metrics]:
    """Move V towards the mean of Q'."""
    learning_rate = state.hyperparameters.value_lr
    return update_v(state.value, batch, target_q, expectile=_MEAN, learning_rate=learning_rate)


def sarsa_critic(
    state: IQLState, batch: Transitions, next_values: jax.Array
) -> tuple[TrainState, Metrics]:
    """Move the critics towards Q' of the data's next actions, by squared errors."""
    return _sarsa_critic(state, batch, expectile=None)


# Expectile regression on the TD error itself (eq. 4). In a deterministic environment it agrees with
# IQL. In a stochastic one its expectile is over next states too, so that it counts on luck.


def expectile_sarsa_critic(
    state: IQLState, batch: Transitions, next_values: jax.Array
) -> tuple[TrainState, Metrics]:
    """Move the critics towards the expectile of Q' of the data's next actions."""
    return _sarsa_critic(state, batch, expectile=state.hyperparameters.expectile)


# Q-learning: the maximum over actions, also those that the data never show (eq. 1). Of continuous
# actions it is the maximum over some that are drawn, see ``create_state``.


def max_value(
    state: IQLState, batch: Transitions, target_q: jax.Array
) -> tuple[TrainState, Metrics]:
    """Move V towards the maximum of Q'."""
    key, _ = _q_learning_keys(state)
    return update_v(
        state.value,
        batch,
        max_q(state, batch.observations, key),
        expectile=_MEAN,
        learning_rate=state.hyperparameters.value_lr,
    )


def max_critic(
    state: IQLState, batch: Transitions, next_values: jax.Array
) -> tuple[TrainState, Metrics]:
    """Move the critics towards ``r + discount * mask * max_a Q'(s', a)``."""
    hp = state.hyperparameters
    _, key = _q_learning_keys(state)
    return update_q(
        state.critic,
        batch,
        max_q(state, batch.next_observations, key),
        discount=hp.discount,
        learning_rate=hp.critic_lr,
    )


OBJECTIVES: dict[str, Objective] = {
    "iql": Objective(iql_value, iql_critic),
    "sarsa": Objective(mean_value, sarsa_critic),
    "expectile_sarsa": Objective(iql_value, expectile_sarsa_critic),
    "q_learning": Objective(max_value, max_critic),
}


def max_q(state: IQLState, observations: Array, key: jax.Array) -> jax.Array:
    """The maximum over candidate actions of the target critics' minimum, [B]. Consumes the key."""
    policy = state.actor.apply_fn(state.actor.params, observations)
    candidates = policy.candidates(key, state.max_actions, state.max_over)
    q_values = jax.vmap(functools.partial(state.target_q, observations))(candidates)
    return jnp.max(q_values, axis=0)


_Q_LEARNING_STREAM = 0x51


def _q_learning_keys(state: IQLState) -> jax.Array:
    """The keys of V's and of the critics' maxima, [2]."""
    # Folded, not split: the state's key goes on as it does for the other objectives.
    key = jax.random.fold_in(jax.random.fold_in(state.key, _Q_LEARNING_STREAM), state.step)
    return jax.random.split(key)


def _sarsa_critic(
    state: IQLState, batch: Transitions, *, expectile: Array | None
) -> tuple[TrainState, Metrics]:
    """Q learns from Q' of the data's next actions."""
    if batch.next_actions is None:
        raise ValueError(f"the objective {state.objective!r} needs transitions with next actions")
    hp = state.hyperparameters
    return update_q_sarsa(
        state.critic,
        batch,
        state.target_q(batch.next_observations, batch.next_actions),
        expectile=expectile,
        discount=hp.discount,
        learning_rate=hp.critic_lr,
    )
