"""The IQL learner: one immutable state, and the update that carries it forward.

``update`` is the algorithm; ``update_n`` applies it many times to batches drawn on the device. Both
are pure, may be jitted, scanned and mapped, and know nothing of files, environments or logging.
"""

import functools

import jax
import jax.numpy as jnp

from iql_jax.algorithm.extractions import update_actor
from iql_jax.algorithm.objectives import OBJECTIVES
from iql_jax.algorithm.state import Hyperparameters, IQLState, create_state
from iql_jax.algorithm.types import Array, Metrics, Transitions
from iql_jax.algorithm.updates import update_q, update_target, update_v

__all__ = [
    "Hyperparameters",
    "IQLState",
    "cosine_decay",
    "create_state",
    "sample_batch",
    "update",
    "update_n",
]


Rows = tuple[Array | int, Array | int]
"""Consecutive transitions of a dataset: the first one's row, and how many there are."""


def cosine_decay(learning_rate: Array, step: Array, decay_steps: Array) -> Array:
    """``learning_rate`` on a half cosine from its full size at step 0 to 0 at ``decay_steps``."""
    progress = jnp.minimum(step / decay_steps, 1.0)
    return learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))


def update(state: IQLState, batch: Transitions) -> tuple[IQLState, Metrics]:
    """One update of V, actor, Q and target, in the order of the official implementation.

    V moves first, towards the *target* critics. The actor's advantage and the critics' targets then
    use the *new* V; the advantage keeps the target critics. The target critics move last, towards
    the *new* critics.

    Args:
        state: The state before the update.
        batch: B transitions.

    Returns:
        The state after the update, and metrics: a flat dict of scalars. Losses and values are means
        over the batch before the network they describe has moved; ``advantage`` is the new V's.
    """
    hp = state.hyperparameters
    objective = OBJECTIVES[state.objective]
    key, dropout_key = jax.random.split(state.key) if state.use_dropout else (state.key, None)

    target_q = state.target_q(batch.observations, batch.actions)
    value, value_metrics = update_v(
        state.value,
        batch,
        objective.value_targets(state, batch, target_q),
        expectile=objective.value_expectile(hp),
        learning_rate=hp.value_lr,
    )
    # One pass of the new V over both observations is faster than two.
    both = jnp.concatenate([batch.observations, batch.next_observations])
    values, next_values = jnp.split(value.apply_fn(value.params, both), 2)
    advantages = target_q - values
    learning_rate = cosine_decay(hp.actor_lr, state.step, hp.actor_decay_steps)
    actor, actor_metrics = update_actor(
        state, batch, advantages, learning_rate=learning_rate, dropout_key=dropout_key
    )
    critic, critic_metrics = update_q(
        state.critic,
        batch,
        objective.next_values(state, batch, next_values),
        loss=functools.partial(objective.critic_loss, hp, batch),
        discount=hp.discount,
        learning_rate=hp.critic_lr,
    )
    target_critic_params = update_target(critic.params, state.target_critic_params, hp.tau)

    new_state = state.replace(
        actor=actor,
        critic=critic,
        value=value,
        target_critic_params=target_critic_params,
        key=key,
        step=state.step + 1,
    )
    advantage = {"advantage": jnp.mean(advantages)}
    return new_state, {**value_metrics, **critic_metrics, **advantage, **actor_metrics}


def sample_batch(
    key: jax.Array, transitions: Transitions, batch_size: int, rows: Rows | None = None
) -> Transitions:
    """``batch_size`` transitions drawn uniformly with replacement. The key is consumed.

    Args:
        key: What they are drawn with.
        transitions: What they are drawn from.
        batch_size: How many.
        rows: The first and the number of those that are drawn from; by default all.
    """
    first, size = (0, transitions.size) if rows is None else rows
    indices = first + jax.random.randint(key, (batch_size,), 0, size)
    return jax.tree.map(lambda x: x[indices], transitions)


_Carry = tuple[IQLState, tuple[jax.Array, Transitions], Metrics]


@functools.partial(jax.jit, static_argnames="batch_size", donate_argnames="state")
def update_n(
    state: IQLState,
    transitions: Transitions,
    num_updates: Array | int,
    *,
    batch_size: int,
    rows: Rows | None = None,
) -> tuple[IQLState, Metrics]:
    """Apply ``update`` ``num_updates`` times to batches drawn on the device, in one program.

    ``num_updates`` is traced. One program therefore serves intervals of every length, and the
    updates it makes are the same bits however a run is cut into intervals.

    Args:
        state: The state before; its buffers are donated and must not be used again.
        transitions: The dataset, on the device.
        num_updates: How often to update, at least 1.
        batch_size: Transitions in a batch.
        rows: See ``sample_batch``; traced.

    Returns:
        The state after, and each metric's mean over the updates.
    """

    def draw(state: IQLState) -> tuple[jax.Array, Transitions]:
        """The next batch, and the state's key after drawing it."""
        key, batch_key = jax.random.split(state.key)
        return key, sample_batch(batch_key, transitions, batch_size, rows)

    def body(_: Array, carry: _Carry) -> _Carry:
        state, (key, batch), sums = carry
        state, metrics = update(state.replace(key=key), batch)
        # Drawn an update ahead: the draw does not wait for the update, so they run side by side.
        return state, draw(state), jax.tree.map(jnp.add, sums, metrics)

    drawn = draw(state)
    metric_shapes = jax.eval_shape(update, state, drawn[1])[1]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metric_shapes)
    state, _, sums = jax.lax.fori_loop(0, num_updates, body, (state, drawn, zeros))
    return state, jax.tree.map(lambda x: x / num_updates, sums)
