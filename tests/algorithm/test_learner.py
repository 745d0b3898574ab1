import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ACTION_DIM, BATCH, OBSERVATION_DIM, make_state, make_transitions

from iql_jax.algorithm import networks
from iql_jax.algorithm.learner import create_state, sample_batch, update, update_n
from iql_jax.algorithm.policy import eval_actions, sample_actions

compiled_update = jax.jit(update)


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def test_changing_any_number_compiles_nothing():
    traces = []

    @jax.jit
    def counted(state, batch):
        traces.append(1)
        return update(state, batch)

    state = make_state(dropout_rate=0.1, actor_loss="ddpgbc")
    batch = make_transitions()
    counted(state, batch)
    for name in state.hyperparameters.__dataclass_fields__:
        changed = state.hyperparameters.replace(**{name: jnp.asarray(0.3, jnp.float32)})
        counted(state.replace(hyperparameters=changed), batch)
    other = {"dropout_rate": 0.2, "actor_decay_steps": None, "expectile": 0.6, "alpha": 2.0}
    counted(make_state(seed=3, actor_loss="ddpgbc", **other), batch)
    assert len(traces) == 1


def test_an_interval_of_any_length_runs_the_same_program():
    transitions = jax.device_put(make_transitions(64))
    before = update_n._cache_size()
    state = make_state()
    for num_updates in (1, 2, 5, 3):
        state, _ = update_n(state, transitions, num_updates, batch_size=8)
    assert int(state.step) == 11
    assert update_n._cache_size() == before + 1


def test_updates_are_the_same_bits_however_a_run_is_cut():
    transitions = jax.device_put(make_transitions(64))
    whole, _ = update_n(make_state(), transitions, 12, batch_size=8)
    cut = make_state()
    for num_updates in (1, 7, 4):
        cut, _ = update_n(cut, transitions, num_updates, batch_size=8)
    assert_same_bits(whole, cut)


def test_interval_metrics_are_means_of_the_single_updates():
    transitions = jax.device_put(make_transitions(64))
    state = make_state()
    singles = []
    for _ in range(4):
        state, metrics = update_n(state, transitions, 1, batch_size=8)
        singles.append(metrics)
    _, means = update_n(make_state(), transitions, 4, batch_size=8)
    for name, mean in means.items():
        np.testing.assert_allclose(mean, np.mean([m[name] for m in singles]), rtol=1e-5, atol=1e-7)


def test_update_n_samples_then_updates():
    transitions = jax.device_put(make_transitions(64))
    key, batch_key = jax.random.split(make_state().key)
    batch = sample_batch(batch_key, transitions, 8)
    expected, _ = compiled_update(make_state().replace(key=key), batch)
    actual, _ = update_n(make_state(), transitions, 1, batch_size=8)
    for x, y in zip(
        jax.tree.leaves(actual.critic.params), jax.tree.leaves(expected.critic.params), strict=True
    ):
        np.testing.assert_allclose(x, y, atol=1e-6)


def test_batches_are_drawn_uniformly_and_rows_stay_together():
    size = 10
    rows = np.arange(size, dtype=np.float32)
    transitions = make_transitions(size).replace(
        observations=np.repeat(rows[:, None], OBSERVATION_DIM, 1),
        actions=np.repeat(rows[:, None], ACTION_DIM, 1) + 100,
        rewards=rows + 200,
        masks=rows + 300,
        next_observations=np.repeat(rows[:, None], OBSERVATION_DIM, 1) + 400,
    )
    batch = sample_batch(jax.random.key(0), jax.device_put(transitions), 20_000)
    drawn = np.asarray(batch.observations[:, 0])
    for offset, field in ((100, batch.actions[:, 1]), (200, batch.rewards), (300, batch.masks)):
        np.testing.assert_array_equal(field, drawn + offset)
    np.testing.assert_array_equal(batch.next_observations[:, -1], drawn + 400)
    counts = np.bincount(drawn.astype(int), minlength=size)
    # Each count is binomial with mean 2,000 and standard deviation 42.
    assert np.abs(counts - 2_000).max() < 5 * 42


def test_training_is_a_function_of_the_seed():
    transitions = jax.device_put(make_transitions(64))
    first, again, other = (
        update_n(make_state(seed), transitions, 5, batch_size=8)[0] for seed in (0, 0, 7)
    )
    assert_same_bits(first, again)
    assert not np.array_equal(
        first.value.params["params"]["out"]["kernel"], other.value.params["params"]["out"]["kernel"]
    )


def test_the_update_can_be_mapped_over_members():
    batch = make_transitions()
    members = [make_state(seed, expectile=e) for seed, e in ((0, 0.5), (1, 0.9))]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    mapped, _ = jax.jit(jax.vmap(update, in_axes=(0, None)))(stacked, batch)
    for i, member in enumerate(members):
        alone, _ = compiled_update(member, batch)
        for x, y in zip(
            jax.tree.leaves(mapped.value.params), jax.tree.leaves(alone.value.params), strict=True
        ):
            np.testing.assert_allclose(x[i], y, atol=1e-5)


def test_dropout_acts_in_training_alone():
    state = make_state(dropout_rate=0.5)
    batch = make_transitions()
    first, metrics = compiled_update(state, batch)
    _, other = compiled_update(state.replace(key=jax.random.key(99)), batch)
    assert float(metrics["actor_loss"]) != float(other["actor_loss"])
    assert float(metrics["critic_loss"]) == float(other["critic_loss"])
    assert not np.array_equal(jax.random.key_data(first.key), jax.random.key_data(state.key))
    params = state.actor.params["params"]
    hidden = batch.observations
    for layer in ("hidden_0", "hidden_1"):
        hidden = np.maximum(hidden @ params[layer]["kernel"] + params[layer]["bias"][None], 0.0)
    means = np.tanh(hidden @ params["mean"]["kernel"] + params["mean"]["bias"][None])
    np.testing.assert_allclose(eval_actions(state.actor, batch.observations), means, atol=1e-5)


def test_dropout_keeps_the_mean_and_the_rate():
    dropped = networks.dropout(jnp.ones((200, 500)), jnp.asarray(0.1), jax.random.key(0))
    assert set(np.unique(dropped)) == {np.float32(0.0), np.float32(1.0) / np.float32(0.9)}
    # 100,000 Bernoulli draws: standard deviation of the share is 0.001.
    assert float(jnp.mean(dropped == 0)) == pytest.approx(0.1, abs=0.005)


def test_acting_is_clipped_and_uses_its_key():
    state = create_state(jax.random.key(0), 3, 2, hidden_dims=(8,))
    observations = 10 * jax.random.normal(jax.random.key(1), (BATCH, 3))
    means = eval_actions(state.actor, observations)
    assert means.shape == (BATCH, 2)
    sampled = sample_actions(state.actor, jax.random.key(2), observations)
    assert float(jnp.abs(sampled).max()) == 1.0  # Standard deviation 1: some lie outside.
    np.testing.assert_array_equal(
        sampled, sample_actions(state.actor, jax.random.key(2), observations)
    )
    assert not np.array_equal(sampled, sample_actions(state.actor, jax.random.key(3), observations))


def test_samples_have_the_policys_mean_and_deviation():
    state = create_state(jax.random.key(0), 3, 2, hidden_dims=(8,))
    narrow = jax.tree.map(lambda x: x, state.actor.params)
    narrow["params"]["log_std"] = jnp.log(jnp.array([0.1, 0.05]))
    actor = state.actor.replace(params=narrow)
    observation = jnp.array([[0.02, -0.01, 0.03]])
    draws = sample_actions(actor, jax.random.key(5), jnp.repeat(observation, 20_000, axis=0))
    np.testing.assert_allclose(draws.std(axis=0), [0.1, 0.05], rtol=0.03)
    np.testing.assert_allclose(draws.mean(axis=0), eval_actions(actor, observation)[0], atol=0.004)
