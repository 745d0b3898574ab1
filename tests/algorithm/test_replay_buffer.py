"""The replay buffer against a plain list, past capacity, with the index in every field."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iql_jax.algorithm import Transitions, replay_buffer

ONLINE = 1_000  # Indices from here on are the environment's.
CAPACITY = 11

add = jax.jit(replay_buffer.add)
sample = jax.jit(replay_buffer.sample, static_argnames=("batch_size", "num_offline"))
is_from_dataset = jax.jit(replay_buffer.is_from_dataset)


def coded(indices):
    """Transitions whose every number says which they are, and of which field and column."""
    at = np.asarray(indices, np.float32)
    return Transitions(
        observations=np.stack([at, at + 0.125], axis=1),
        actions=at[:, None] + np.float32(0.25),
        rewards=at + np.float32(0.375),
        masks=at + np.float32(0.5),
        next_observations=np.stack([at + 0.625, at + 0.75], axis=1).astype(np.float32),
    )


def decoded(transitions):
    """The indices, after a look at every field."""
    indices = np.asarray(transitions.rewards) - np.float32(0.375)
    for field, expected in vars(coded(indices)).items():
        np.testing.assert_array_equal(getattr(transitions, field), expected)
    return indices.astype(int).tolist()


class PlainBuffer:
    """What the buffer should be: a list, and a place where the next one goes."""

    def __init__(self, num_dataset, keep_dataset):
        self.rows = [*range(num_dataset), *[None] * (CAPACITY - num_dataset)]
        self.next = num_dataset
        self.first = num_dataset if keep_dataset else 0

    def add(self, indices):
        for index in indices:
            if self.next == CAPACITY:
                self.next = self.first
            self.rows[self.next] = index
            self.next += 1

    @property
    def held(self):
        return [index for index in self.rows if index is not None]


def both(num_dataset, keep_dataset):
    buffer = replay_buffer.init(coded(range(num_dataset)), CAPACITY, keep_dataset=keep_dataset)
    return buffer, PlainBuffer(num_dataset, keep_dataset)


def assert_same(buffer, plain):
    held = jax.tree.map(lambda x: np.asarray(x)[: int(buffer.size)], buffer.transitions)
    assert decoded(held) == plain.held
    from_dataset = np.asarray(is_from_dataset(buffer, np.arange(CAPACITY)))
    expected = [index < ONLINE for index in plain.held]
    assert from_dataset[: len(plain.held)].tolist() == expected


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    num_dataset=st.integers(1, CAPACITY),
    keep_dataset=st.booleans(),
    chunks=st.lists(st.sampled_from([1, 2, 3]), max_size=14),
)
def test_it_holds_what_a_list_would_hold(num_dataset, keep_dataset, chunks):
    if keep_dataset:
        num_dataset = min(num_dataset, CAPACITY - 3)  # A ring at least as long as a chunk.
    buffer, plain = both(num_dataset, keep_dataset)
    added = 0
    for chunk in chunks:
        indices = range(ONLINE + added, ONLINE + added + chunk)
        added += chunk
        buffer = add(buffer, coded(indices))
        plain.add(indices)
        assert_same(buffer, plain)


@pytest.mark.parametrize("keep_dataset", [False, True])
@pytest.mark.parametrize("sizes", [(4, 3), (8, 1), (30, 2), (5, 23)])
def test_extending_is_adding_one_after_the_other(keep_dataset, sizes):
    buffer, plain = both(4, keep_dataset)
    for size in sizes:
        indices = range(ONLINE + int(buffer.added), ONLINE + int(buffer.added) + size)
        before = buffer.transitions.rewards
        buffer = replay_buffer.extend(buffer, coded(indices))
        assert before.is_deleted()  # There is never a second buffer.
        plain.add(indices)
        assert_same(buffer, plain)
    assert int(buffer.added) == sum(sizes)


def filled(added, keep_dataset):
    buffer, plain = both(4, keep_dataset)
    indices = range(ONLINE, ONLINE + added)
    for index in indices:
        buffer = add(buffer, coded([index]))
    plain.add(indices)
    return buffer, plain


@pytest.mark.parametrize("keep_dataset", [False, True])
@pytest.mark.parametrize("added", [0, 7, 9, 30])
def test_uniform_batches_hold_all_there_is_alike_and_nothing_else(keep_dataset, added):
    buffer, plain = filled(added, keep_dataset)
    batch, share = sample(buffer, jax.random.key(added), batch_size=5_500, num_offline=None)
    drawn = decoded(batch)
    counts = {index: drawn.count(index) for index in set(drawn)}
    assert set(counts) == set(plain.held)
    p = 1 / len(plain.held)
    bound = 6 * np.sqrt(5_500 * p * (1 - p))  # Six standard deviations of a count.
    assert all(abs(count - 5_500 * p) <= bound for count in counts.values())
    assert float(share) == pytest.approx(np.mean([index < ONLINE for index in drawn]), abs=1e-6)
    again, _ = sample(buffer, jax.random.key(added), batch_size=5_500, num_offline=None)
    other, _ = sample(buffer, jax.random.key(99), batch_size=5_500, num_offline=None)
    assert decoded(again) == drawn != decoded(other)


@pytest.mark.parametrize("num_offline", [0, 3, 8])
@pytest.mark.parametrize("added", [1, 8, 20])
def test_mixed_batches_have_their_share_of_each(num_offline, added):
    buffer, plain = filled(added, keep_dataset=True)
    seen = set()
    for seed in range(30):
        batch, share = sample(buffer, jax.random.key(seed), batch_size=8, num_offline=num_offline)
        drawn = decoded(batch)
        assert sum(index < ONLINE for index in drawn) == num_offline
        assert float(share) == num_offline / 8
        seen |= set(drawn)
    drawn_from = {True: num_offline > 0, False: num_offline < 8}
    assert seen == {index for index in plain.held if drawn_from[index < ONLINE]}


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 rows cannot hold 4 transitions"):
        replay_buffer.init(coded(range(4)), 3, keep_dataset=False)
    with pytest.raises(ValueError, match="4 rows cannot hold 4 transitions"):
        replay_buffer.init(coded(range(4)), 4, keep_dataset=True)
    buffer = replay_buffer.init(coded(range(4)), 4, keep_dataset=False)
    doubles = jax.tree.map(lambda x: x.astype(np.float64), coded([9]))
    with pytest.raises(AssertionError, match="dtype"):
        replay_buffer.add(buffer, doubles)
