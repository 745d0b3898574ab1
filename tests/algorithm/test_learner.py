"""The update as a program: compiled once, scannable, mappable, a function of its seed."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    ACTION_DIM,
    OBSERVATION_DIM,
    QUICKLY,
    assert_close,
    compiled_update,
    make_state,
    make_transitions,
)

from iql_jax.algorithm import (
    AgentConfig,
    Hyperparameters,
    eval_actions,
    sample_batch,
    update,
    update_n,
)

traces = []


@functools.partial(jax.jit, compiler_options=QUICKLY)
def counted_update(state, batch):
    traces.append(1)
    return update(state, batch)


@pytest.fixture(scope="module")
def transitions():
    return jax.device_put(make_transitions(64))


def test_changing_any_number_compiles_nothing():
    state, batch = make_state(actor_loss="ddpgbc", dropout_rate=0.1), make_transitions()
    counted_update(state, batch)
    for name in Hyperparameters.__dataclass_fields__:
        changed = state.hyperparameters.replace(**{name: jnp.asarray(0.3, jnp.float32)})
        counted_update(state.replace(hyperparameters=changed), batch)
    other = {"dropout_rate": 0.2, "opt_decay_schedule": "none", "discount": 0.5, "alpha": 2.0}
    counted_update(make_state(3, actor_loss="ddpgbc", **other), batch)
    assert len(traces) == 1


def test_every_number_of_the_config_is_traced():
    numbers = {f.name for f in dataclasses.fields(AgentConfig) if isinstance(f.default, float)}
    assert set(Hyperparameters.__dataclass_fields__) == numbers | {"actor_decay_steps"}
    hyperparameters = make_state(max_steps=7, tau=0.5, alpha=2.0).hyperparameters
    assert [hyperparameters.actor_decay_steps, hyperparameters.tau] == [7.0, 0.5]
    assert make_state(opt_decay_schedule="none").hyperparameters.actor_decay_steps == jnp.inf


def test_dropout_acts_in_training_alone_and_uses_the_key():
    state, batch = make_state(actor_loss="ddpgbc", dropout_rate=0.5), make_transitions()
    after, metrics = counted_update(state, batch)
    _, other = counted_update(state.replace(key=jax.random.key(99)), batch)
    assert float(metrics["actor_loss"]) != float(other["actor_loss"])
    assert float(metrics["critic_loss"]) == float(other["critic_loss"])
    assert not np.array_equal(jax.random.key_data(after.key), jax.random.key_data(state.key))
    acting = [eval_actions(s.actor, batch.observations) for s in (state, make_state())]
    assert_close(*acting)


def test_a_run_of_updates_is_the_same_bits_however_it_is_cut(transitions):
    programs = update_n._cache_size()
    whole, means = update_n(make_state(), transitions, 6, batch_size=16)
    state, sums = make_state(), dict.fromkeys(means, 0.0)
    for count in (1, 3, 2):
        state, metrics = update_n(state, transitions, count, batch_size=16)
        sums = {name: sums[name] + count * metrics[name] for name in sums}
    assert_close(state, whole)
    assert int(state.step) == 6
    for name, mean in means.items():
        np.testing.assert_allclose(sums[name] / 6, mean, rtol=1e-5, atol=1e-7)
    assert update_n._cache_size() <= programs + 1


def test_update_n_draws_a_batch_and_then_updates(transitions):
    key, batch_key = jax.random.split(make_state().key)
    batch = sample_batch(batch_key, transitions, 16)
    expected, _ = compiled_update(make_state().replace(key=key), batch)
    actual, _ = update_n(make_state(), transitions, 1, batch_size=16)
    assert_close(actual.critic.params, expected.critic.params, atol=1e-6)


@pytest.mark.parametrize("rows", [None, (3, 5)])
def test_batches_are_drawn_uniformly_and_rows_stay_together(rows):
    index = np.arange(10, dtype=np.float32)
    transitions = make_transitions(10).replace(
        observations=np.repeat(index[:, None], OBSERVATION_DIM, 1),
        actions=np.repeat(index[:, None], ACTION_DIM, 1) + 100,
        rewards=index + 200,
        masks=index + 300,
        next_observations=np.repeat(index[:, None], OBSERVATION_DIM, 1) + 400,
    )
    batch = sample_batch(jax.random.key(0), jax.device_put(transitions), 20_000, rows)
    drawn = np.asarray(batch.observations[:, 0])
    for offset, field in ((100, batch.actions[:, 1]), (200, batch.rewards), (300, batch.masks)):
        np.testing.assert_array_equal(field, drawn + offset)
    np.testing.assert_array_equal(batch.next_observations[:, -1], drawn + 400)
    first, size = rows or (0, 10)
    counts = np.bincount(drawn.astype(int), minlength=10)
    # Each count is binomial; its standard deviation is at most 57.
    assert np.abs(counts[first : first + size] - 20_000 / size).max() < 5 * 57
    assert counts.sum() == counts[first : first + size].sum()
