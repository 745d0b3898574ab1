"""The replay buffer against a plain list, past capacity, with the index in every field."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iql_jax.algorithm import replay_buffer
from iql_jax.algorithm.types import Transitions

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

    def __init__(self, num_dataset, capacity, keep_dataset):
        self.rows = [*range(num_dataset), *[None] * (capacity - num_dataset)]
        self.next = num_dataset
        self.first = num_dataset if keep_dataset else 0

    def add(self, index):
        if self.next == len(self.rows):
            self.next = self.first
        self.rows[self.next] = index
        self.next += 1

    @property
    def held(self):
        return [index for index in self.rows if index is not None]


def assert_same(buffer, plain):
    size = int(buffer.size)
    assert size == len(plain.held)
    held = jax.tree.map(lambda x: np.asarray(x)[:size], buffer.transitions)
    assert decoded(held) == plain.held
    rows = np.arange(size)
    expected = [index < ONLINE for index in plain.held]
    assert np.asarray(is_from_dataset(buffer, rows)).tolist() == expected


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    num_dataset=st.integers(1, CAPACITY),
    keep_dataset=st.booleans(),
    chunks=st.lists(st.sampled_from([1, 2, 3]), max_size=14),
)
def test_it_holds_what_a_list_would_hold(num_dataset, keep_dataset, chunks):
    if keep_dataset:
        num_dataset = min(num_dataset, CAPACITY - 3)  # A ring at least as long as a chunk.
    plain = PlainBuffer(num_dataset, CAPACITY, keep_dataset)
    buffer = replay_buffer.init(coded(range(num_dataset)), CAPACITY, keep_dataset=keep_dataset)
    assert_same(buffer, plain)
    made = ONLINE
    for chunk in chunks:
        indices = range(made, made + chunk)
        made += chunk
        # One size for all, of which the rest must leave no trace.
        padding = [ONLINE - 1] * (3 - chunk)
        buffer = add(buffer, coded([*indices, *padding]), chunk)
        for index in indices:
            plain.add(index)
        assert_same(buffer, plain)


@pytest.mark.parametrize("keep_dataset", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (4, 3), (7,), (8, 1), (30, 2), (5, 23)])
def test_extending_is_adding_one_after_the_other(keep_dataset, sizes):
    plain = PlainBuffer(4, CAPACITY, keep_dataset)
    buffer = replay_buffer.init(coded(range(4)), CAPACITY, keep_dataset=keep_dataset)
    made = ONLINE
    for size in sizes:
        indices = range(made, made + size)
        made += size
        before = buffer.transitions.rewards
        buffer = replay_buffer.extend(buffer, coded(indices))
        assert before.is_deleted()  # There is never a second buffer.
        for index in indices:
            plain.add(index)
        assert_same(buffer, plain)
        assert int(buffer.added) == made - ONLINE


def filled(num_dataset, added, keep_dataset):
    plain = PlainBuffer(num_dataset, CAPACITY, keep_dataset)
    buffer = replay_buffer.init(coded(range(num_dataset)), CAPACITY, keep_dataset=keep_dataset)
    for index in range(ONLINE, ONLINE + added):
        buffer = add(buffer, coded([index]), 1)
        plain.add(index)
    return buffer, plain


@pytest.mark.parametrize("keep_dataset", [False, True])
@pytest.mark.parametrize("added", [0, 1, 6, 7, 8, 10, 12, 30])
def test_uniform_batches_hold_all_there_is_alike_and_nothing_else(keep_dataset, added):
    buffer, plain = filled(4, added, keep_dataset)
    batch, share = sample(buffer, jax.random.key(added), batch_size=5_500, num_offline=None)
    drawn = decoded(batch)
    counts = {index: drawn.count(index) for index in set(drawn)}
    assert set(counts) == set(plain.held)
    # Six standard deviations of a count.
    p = 1 / len(plain.held)
    bound = 6 * np.sqrt(5_500 * p * (1 - p))
    assert all(abs(count - 5_500 * p) <= bound for count in counts.values())
    assert float(share) == pytest.approx(np.mean([index < ONLINE for index in drawn]), abs=1e-6)


@pytest.mark.parametrize("num_offline", [0, 3, 8])
@pytest.mark.parametrize("added", [1, 7, 8, 20])
def test_mixed_batches_have_their_share_of_each(num_offline, added):
    buffer, plain = filled(4, added, keep_dataset=True)
    seen = set()
    for seed in range(30):
        batch, share = sample(buffer, jax.random.key(seed), batch_size=8, num_offline=num_offline)
        drawn = decoded(batch)
        assert sum(index < ONLINE for index in drawn) == num_offline
        assert float(share) == num_offline / 8
        seen |= set(drawn)
    expected = {
        index for index in plain.held if (num_offline > 0 if index < ONLINE else num_offline < 8)
    }
    assert seen == expected


def test_the_keys_decide_the_batch():
    buffer, _ = filled(4, 5, keep_dataset=False)
    draw = functools.partial(sample, buffer, batch_size=16, num_offline=None)
    first, again, other = (decoded(draw(jax.random.key(seed))[0]) for seed in (0, 0, 1))
    assert first == again != other


def test_adding_overwrites_a_donated_buffer_in_one_program():
    traces = []

    def counted(buffer, transitions):
        traces.append(1)
        return replay_buffer.add(buffer, transitions, 1)

    donating = jax.jit(counted, donate_argnums=0)
    plain = PlainBuffer(4, CAPACITY, keep_dataset=False)
    buffer = replay_buffer.init(coded(range(4)), CAPACITY, keep_dataset=False)
    for index in range(ONLINE, ONLINE + 15):
        before, buffer = buffer, donating(buffer, coded([index]))
        assert before.transitions.observations.is_deleted()
        plain.add(index)
    assert_same(buffer, plain)
    assert len(traces) == 1


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 rows cannot hold 4 transitions"):
        replay_buffer.init(coded(range(4)), 3, keep_dataset=False)
    with pytest.raises(ValueError, match="4 rows cannot hold 4 transitions"):
        replay_buffer.init(coded(range(4)), 4, keep_dataset=True)
    buffer = replay_buffer.init(coded(range(4)), 4, keep_dataset=False)
    doubles = jax.tree.map(lambda x: x.astype(np.float64), coded([9]))
    with pytest.raises(AssertionError, match="dtype"):
        replay_buffer.add(buffer, doubles, 1)
