"""The replay buffer of fine-tuning: a pytree on the device, and pure functions on it.

It begins with the dataset; transitions of the environment follow. When it is full, the oldest give
way: the dataset's first, or, if the dataset is to be kept, the oldest of the environment's.
"""

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from iql_jax.algorithm.types import Array, Transitions


class ReplayBuffer(flax.struct.PyTreeNode):
    """A ring of transitions.

    Which rows hold what follows from the counts alone: the dataset in rows [0, num_dataset), the
    environment's after them, round the ring of rows [ring_start, capacity).
    """

    transitions: Transitions  # [capacity, ...]
    num_dataset: Array  # int32, rows that the dataset filled.
    ring_start: Array  # int32, rows before this one are never overwritten.
    added: Array  # int32, transitions added since.

    @property
    def capacity(self) -> int:
        """How many transitions it can hold."""
        return self.transitions.size

    @property
    def size(self) -> jax.Array:
        """How many transitions it holds, int32."""
        return jnp.minimum(self.num_dataset + self.added, self.capacity)


def init(dataset: Transitions, capacity: int, *, keep_dataset: bool) -> ReplayBuffer:
    """A buffer that holds a dataset and nothing else.

    Args:
        dataset: N transitions, NumPy arrays.
        capacity: Rows of the buffer, at least N; more than N if the dataset is kept.
        keep_dataset: Whether its rows are never overwritten.

    Raises:
        ValueError: If the capacity does not suffice.
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


def add(buffer: ReplayBuffer, transitions: Transitions, count: Array | int) -> ReplayBuffer:
    """The buffer after the first ``count`` of n transitions, in their order.

    The shapes do not depend on ``count``, so that one program stores any number up to n, which is
    at most the length of the ring.
    """
    chex.assert_trees_all_equal_dtypes(buffer.transitions, transitions)
    ring = buffer.capacity - buffer.ring_start
    first = buffer.num_dataset - buffer.ring_start + buffer.added
    index = jnp.arange(transitions.size)
    rows = buffer.ring_start + (first + index) % ring
    rows = jnp.where(index < count, rows, buffer.capacity)  # Outside: those are dropped.
    return buffer.replace(
        transitions=jax.tree.map(
            lambda held, new: held.at[rows].set(new, mode="drop"), buffer.transitions, transitions
        ),
        added=buffer.added + count,
    )


# There is no room for a second buffer where one is more than half of the device's memory.
_add_in_place = jax.jit(add, donate_argnames="buffer")


def extend(buffer: ReplayBuffer, transitions: Transitions) -> ReplayBuffer:
    """The buffer, which is donated, after any number of transitions, in their order."""
    ring = buffer.capacity - int(buffer.ring_start)
    skipped = max(0, transitions.size - ring)  # They would be overwritten at once.
    buffer = buffer.replace(added=buffer.added + skipped)
    new = jax.tree.map(lambda x: x[skipped:], transitions)
    return _add_in_place(buffer, new, new.size)


def is_from_dataset(buffer: ReplayBuffer, rows: Array) -> Array:
    """Whether rows [B] hold transitions of the dataset, [B] bool."""
    ring_held = buffer.num_dataset - buffer.ring_start
    ring = buffer.capacity - buffer.ring_start
    overwritten = jnp.maximum(0, ring_held + buffer.added - ring)
    kept = (rows < buffer.ring_start) | (rows >= buffer.ring_start + overwritten)
    return (rows < buffer.num_dataset) & kept


def sample(
    buffer: ReplayBuffer, key: jax.Array, batch_size: int, num_offline: int | None
) -> tuple[Transitions, jax.Array]:
    """Draw a batch with replacement. The key is consumed.

    Args:
        buffer: Holds at least one transition; one of the environment's and one of the dataset's,
            and the dataset kept, where ``num_offline`` is given.
        key: A PRNG key.
        batch_size: Transitions in the batch.
        num_offline: How many of them are the dataset's; None draws uniformly from all.

    Returns:
        The batch, and the share of it that is the dataset's.
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
