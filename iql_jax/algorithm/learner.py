"""The learner: one update of everything, and many of them in one program.

``update`` is the algorithm; ``update_n`` applies it to batches drawn on the device. Both are pure
and may be jitted, scanned and mapped.
"""

import functools

import jax
import jax.numpy as jnp

from iql_jax.algorithm import relatives
from iql_jax.algorithm.state import IQLState
from iql_jax.algorithm.types import Array, Metrics, Transitions
from iql_jax.algorithm.updates import update_actor, update_q, update_target, update_v

Rows = tuple[Array | int, Array | int]
"""Consecutive transitions of a dataset: the first one's row, and how many there are."""


def update(state: IQLState, batch: Transitions) -> tuple[IQLState, Metrics]:
    """One update of V, actor, critics and target critics, in the official implementation's order.

    V moves first, towards the *target* critics. The actor's advantages and the critics' targets use
    the *new* V; the advantages keep the target critics. The target critics move last, towards the
    *new* critics. A state of another objective than 'iql' has an update of its own in
    ``relatives``.

    Returns:
        The state after the update, and metrics: a flat dict of scalars. Losses and values are means
        over the batch before the network that they describe moved; ``advantage`` is the new V's.
    """
    if state.objective != "iql":
        return relatives.UPDATES[state.objective](state, batch)

    target_q = state.target_q(batch.observations, batch.actions)
    state, value_metrics = update_v(state, batch, target_q, state.hyperparameters.expectile)
    # One pass of the new V over both observations is faster than two.
    both = jnp.concatenate([batch.observations, batch.next_observations])
    values, next_values = jnp.split(state.v(both), 2)
    state, actor_metrics = update_actor(state, batch, target_q - values)
    state, critic_metrics = update_q(state, batch, next_values)
    state = update_target(state)
    metrics = {**value_metrics, **actor_metrics, **critic_metrics}
    return state.replace(step=state.step + 1), metrics


def sample_batch(
    key: jax.Array, transitions: Transitions, batch_size: int, rows: Rows | None = None
) -> Transitions:
    """Draws a batch uniformly with replacement from ``rows``, by default all. Consumes the key."""
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
    """Applies ``update`` ``num_updates`` times to batches drawn on the device, in one program.

    ``num_updates`` is traced: one program serves chunks of every length, and a run is the same bits
    however it is cut into chunks.

    Args:
        state: The state before; its buffers are donated and must not be used again.
        transitions: The dataset, on the device.
        num_updates: At least 1.
        batch_size: Transitions in a batch.
        rows: See ``sample_batch``; traced.

    Returns:
        The state after, and each metric's mean over the updates.
    """

    def draw(state: IQLState) -> tuple[jax.Array, Transitions]:
        """Returns the state's key after drawing the next batch, and the batch."""
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
