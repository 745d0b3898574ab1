"""What V and Q learn: IQL's targets and losses, and those of the objectives that led to it.

All have the same networks and the same steps, ``updates.update_v`` and ``update_q``; an objective
says what these are moved towards, and by which loss. Equation numbers are those of Kostrikov et al.
(2021), https://arxiv.org/abs/2110.06169.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from iql_jax.algorithm import losses
from iql_jax.algorithm.state import Hyperparameters, IQLState
from iql_jax.algorithm.types import Array, Transitions

Targets = Callable[[IQLState, Transitions, jax.Array], jax.Array]


class Objective(NamedTuple):
    """What V and the critics learn; the states that it is given are those before the update.

    Attributes:
        value_targets: What V is moved towards at the observations, [B], given
            ``min_i Q'_i(s, a)`` of the target critics, [B].
        value_expectile: Which expectile of these it shall be.
        next_values: What follows the reward in the critics' targets, [B], given the new V of the
            next observations, [B].
        critic_loss: The critics' loss, a scalar, of Q [num_critics, B] and its targets [B].
    """

    value_targets: Targets
    value_expectile: Callable[[Hyperparameters], Array | float]
    next_values: Targets
    critic_loss: Callable[[Hyperparameters, Transitions, jax.Array, Array], jax.Array]


def as_given(state: IQLState, batch: Transitions, values: jax.Array) -> jax.Array:
    """IQL's targets: of V the Q' of the data's actions (eq. 5), of Q the new V (eq. 6)."""
    return values


def own_expectile(hp: Hyperparameters) -> Array:
    """The expectile that is set: IQL's V is that of Q' over the data's actions (eq. 5)."""
    return hp.expectile


def mean(hp: Hyperparameters) -> float:
    """The expectile that is the mean."""
    return 0.5


def squared_errors(
    hp: Hyperparameters, batch: Transitions, q_values: jax.Array, targets: Array
) -> jax.Array:
    """IQL's critics: squared errors (eq. 6)."""
    return jnp.mean(losses.critic_loss(q_values, targets))


# SARSA: the value of the policy that made the data (eq. 3).


def next_q(state: IQLState, batch: Transitions, next_values: jax.Array) -> jax.Array:
    """Q' of the data's next actions."""
    if batch.next_actions is None:
        raise ValueError(f"the objective {state.objective!r} needs transitions with next actions")
    return state.target_q(batch.next_observations, batch.next_actions)


def squared_errors_of_sarsa(
    hp: Hyperparameters, batch: Transitions, q_values: jax.Array, targets: Array
) -> jax.Array:
    """Squared errors where there is a next action, or none is needed."""
    return losses.masked_mean(losses.critic_loss(q_values, targets), _usable(batch))


def _usable(batch: Transitions) -> Array:
    if batch.next_action_masks is None:
        raise ValueError("the transitions hold no next actions")
    return jnp.maximum(batch.next_action_masks, 1.0 - batch.masks)


# Expectile regression on the TD error itself (eq. 4). In a deterministic environment it agrees with
# IQL. In a stochastic one its expectile is over next states too, so that it counts on luck.


def expectile_errors_of_sarsa(
    hp: Hyperparameters, batch: Transitions, q_values: jax.Array, targets: Array
) -> jax.Array:
    """Expectile regression where there is a next action, or none is needed."""
    errors = losses.expectile_critic_loss(q_values, targets, hp.expectile)
    return losses.masked_mean(errors, _usable(batch))


# Q-learning: the maximum over actions, also those that the data never show (eq. 1). Of continuous
# actions it is the maximum over some that are drawn, see ``create_state``.


def max_target_q(state: IQLState, batch: Transitions, target_q: jax.Array) -> jax.Array:
    """The maximum of Q' at the observations."""
    return _max_q(state, batch.observations, _q_learning_keys(state)[0])


def max_next_q(state: IQLState, batch: Transitions, next_values: jax.Array) -> jax.Array:
    """The maximum of Q' at the next observations."""
    return _max_q(state, batch.next_observations, _q_learning_keys(state)[1])


def _max_q(state: IQLState, observations: Array, key: jax.Array) -> jax.Array:
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


OBJECTIVES: dict[str, Objective] = {
    "iql": Objective(as_given, own_expectile, as_given, squared_errors),
    "sarsa": Objective(as_given, mean, next_q, squared_errors_of_sarsa),
    "expectile_sarsa": Objective(as_given, own_expectile, next_q, expectile_errors_of_sarsa),
    "q_learning": Objective(max_target_q, mean, max_next_q, squared_errors),
}
