"""The replay buffer of fine-tuning: a pytree on the device, and pure functions on it.

It starts with the dataset; transitions of the environment follow. When it is full, new ones replace
the oldest: the dataset's first, or, if the dataset is kept, the oldest of the environment's.
"""

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.algorithm.types import Array, Transitions


class ReplayBuffer(flax.struct.PyTreeNode):
    """A ring of transitions.

    The dataset is in rows [0, num_dataset); the environment's transitions follow, round the ring of
    rows [ring_start, capacity). The counts alone say which row holds what.
    """

    transitions: Transitions  # [capacity, ...]
    num_dataset: Array  # int32, rows that the dataset filled at the start.
    ring_start: Array  # int32, rows before this one are never overwritten.
    added: Array  # int32, transitions added since.

    @property
    def capacity(self) -> int:
        """The number of transitions that it can hold."""
        return self.transitions.size

    @property
    def size(self) -> jax.Array:
        """The number of transitions that it holds, int32."""
        return jnp.minimum(self.num_dataset + self.added, self.capacity)


def init(dataset: Transitions, capacity: int, *, keep_dataset: bool) -> ReplayBuffer:
    """Returns a buffer that holds a dataset, N transitions in NumPy arrays, and nothing else.

    With ``keep_dataset``, its rows are never overwritten.

    Raises:
        ValueError: If the capacity is below N, or N where the dataset is kept.
    """
    num_dataset = dataset.size
    if capacity < num_dataset + keep_dataset:
        raise ValueError(f"{capacity} rows cannot hold {num_dataset} transitions of a dataset")

    def extend(rows: Array) -> jax.Array:
        extended = np.zeros((capacity, *rows.shape[1:]), rows.dtype)
        extended[:num_dataset] = rows
        return jax.device_put(extended)

    return ReplayBuffer(
        transitions=jax.tree.map(extend, dataset),
        num_dataset=jnp.asarray(num_dataset, jnp.int32),
        ring_start=jnp.asarray(num_dataset if keep_dataset else 0, jnp.int32),
        added=jnp.zeros((), jnp.int32),
    )


def add(buffer: ReplayBuffer, transitions: Transitions) -> ReplayBuffer:
    """Returns the buffer with n transitions added, in order; its ring has to hold n."""
    chex.assert_trees_all_equal_dtypes(buffer.transitions, transitions)
    ring = buffer.capacity - buffer.ring_start
    first = buffer.num_dataset - buffer.ring_start + buffer.added
    rows = buffer.ring_start + (first + jnp.arange(transitions.size)) % ring
    return buffer.replace(
        transitions=jax.tree.map(
            lambda held, new: held.at[rows].set(new), buffer.transitions, transitions
        ),
        added=buffer.added + transitions.size,
    )


# Donated: a buffer may take more than half of the device's memory, so a copy would not fit.
_add_in_place = jax.jit(add, donate_argnames="buffer")


def extend(buffer: ReplayBuffer, transitions: Transitions) -> ReplayBuffer:
    """Returns the buffer, which is donated, with any number of transitions added, in order."""
    ring = buffer.capacity - int(buffer.ring_start)
    skipped = max(0, transitions.size - ring)  # Those would be overwritten at once.
    buffer = buffer.replace(added=buffer.added + skipped)
    new = jax.tree.map(lambda x: x[skipped:], transitions)
    return _add_in_place(buffer, new)


def is_from_dataset(buffer: ReplayBuffer, rows: Array) -> Array:
    """Tells which of the rows [B] hold transitions of the dataset, [B] bool."""
    ring_held = buffer.num_dataset - buffer.ring_start
    ring = buffer.capacity - buffer.ring_start
    overwritten = jnp.maximum(0, ring_held + buffer.added - ring)
    kept = (rows < buffer.ring_start) | (rows >= buffer.ring_start + overwritten)
    return (rows < buffer.num_dataset) & kept


def sample(
    buffer: ReplayBuffer, key: jax.Array, batch_size: int, num_offline: int | None
) -> tuple[Transitions, jax.Array]:
    """Draws a batch with replacement; returns it, and the share of it that is from the dataset.

    ``num_offline`` of the batch are the dataset's, which is kept; None draws uniformly from all.
    The buffer must hold at least one transition of each kind that is drawn.
    """
    if num_offline is None:
        rows = jax.random.randint(key, (batch_size,), 0, buffer.size)
    else:
        offline_key, online_key = jax.random.split(key)
        offline = jax.random.randint(offline_key, (num_offline,), 0, buffer.num_dataset)
        online_shape = (batch_size - num_offline,)
        online = jax.random.randint(online_key, online_shape, buffer.num_dataset, buffer.size)
        rows = jnp.concatenate([offline, online])
    batch = jax.tree.map(lambda x: x[rows], buffer.transitions)
    return batch, jnp.mean(is_from_dataset(buffer, rows), dtype=jnp.float32)
