"""The mapped update: N members together are N learners on their own."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import ACTION_DIM, OBSERVATION_DIM, make_transitions

from iql_jax.algorithm import AgentConfig, create_state, eval_actions, update_n
from iql_jax.populations.mapped import (
    Placement,
    Pool,
    eval_population_actions,
    stack,
    update_population_n,
)

MEMBERS = [
    {},
    {"expectile": 0.9, "temperature": 10.0},
    {"actor_lr": 1e-3, "value_lr": 2e-3, "critic_lr": 3e-3, "tau": 0.1, "discount": 0.9},
    {"max_weight": 1.0, "dropout_rate": 0.4, "opt_decay_schedule": "none"},
]
UPDATES = 20


def make(i):
    hyperparameters = {"dropout_rate": 0.1, **MEMBERS[i]}
    key = jax.random.key(i)
    config = AgentConfig(hidden_dims=(8,), **hyperparameters)
    return create_state(key, OBSERVATION_DIM, ACTION_DIM, config)


def numbers(tree):
    return [
        jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        for x in jax.tree.leaves(tree)
    ]


def assert_close(actual, expected, atol=1e-5):
    for x, y in zip(numbers(actual), numbers(expected), strict=True):
        np.testing.assert_allclose(x, y, atol=atol)


def together(indices, in_turn, datasets=None):
    """Each member's state and metrics, trained with the others."""
    datasets = datasets or [make_transitions(64)] * len(indices)
    placement = Placement.of(len(indices))
    population, metrics = update_population_n(
        placement.spread(stack([make(i) for i in indices])),
        placement.place(Pool.of(datasets)),
        np.int32(UPDATES),
        batch_size=8,
        mesh=placement.mesh,
        in_turn=in_turn,
    )
    host, means = placement.gather(population), placement.gather(metrics)
    return [
        (placement.member(host, i), {name: mean[i] for name, mean in means.items()})
        for i in range(len(indices))
    ]


@pytest.fixture(scope="module")
def alone():
    transitions = jax.device_put(make_transitions(64))
    return [update_n(make(i), transitions, UPDATES, batch_size=8) for i in range(len(MEMBERS))]


@pytest.mark.parametrize("in_turn", [True, False])
def test_a_population_is_its_members_on_their_own(alone, in_turn):
    for actual, expected in zip(together(range(4), in_turn), alone, strict=True):
        assert_close(actual, expected, atol=0.0 if in_turn else 1e-5)


@pytest.mark.parametrize("in_turn", [True, False])
def test_members_may_have_data_of_their_own(alone, in_turn):
    same, other = make_transitions(64), make_transitions(40, seed=1)
    members = together([0, 1, 2, 3], in_turn, [other, same, other, same])
    for i, actual in enumerate(members):
        expected = alone[i]
        if i in (0, 2):
            expected = update_n(make(i), jax.device_put(other), UPDATES, batch_size=8)
        assert_close(actual, expected, atol=0.0 if in_turn else 1e-5)


def test_a_pool_holds_each_dataset_once():
    one, other = make_transitions(64), make_transitions(40, seed=1)
    pool = Pool.of([other, one, other])
    assert (pool.first.tolist(), pool.size.tolist()) == ([0, 40, 0], [40, 64, 40])
    assert pool.transitions.size == 104
    np.testing.assert_array_equal(pool.transitions.rewards[40:], one.rewards)
    assert Pool.of([one, one]).transitions is one


def test_adding_members_changes_no_other(alone):
    before = update_population_n._cache_size()
    for indices in ([2, 0], [1, 3]):
        for i, actual in zip(indices, together(indices, True), strict=True):
            assert_close(actual, alone[i], atol=0.0)
    # Other members compile nothing anew.
    assert update_population_n._cache_size() == before + 1


@pytest.mark.parametrize("in_turn", [True, False])
def test_every_member_acts_on_observations_of_its_own(in_turn):
    observations = np.random.default_rng(0).normal(size=(4, 6, OBSERVATION_DIM)).astype(np.float32)
    actors = stack([make(i) for i in range(4)]).actor
    actions = eval_population_actions(actors, observations, in_turn=in_turn)
    for i in range(4):
        expected = eval_actions(make(i).actor, observations[i])
        np.testing.assert_allclose(actions[i], expected, atol=1e-6)


ON_EIGHT_DEVICES = """
import sys
import jax, numpy as np
from test_population import numbers, together
assert jax.device_count() == 8
alone = np.load(sys.argv[1])
# Two to a device; copies of the last member fill the last ones.
indices = [0, 1, 2, 3, 3, 2, 1, 0, 1]
for i, member in zip(indices, together(indices, True), strict=True):
    for j, x in enumerate(numbers(member)):
        np.testing.assert_allclose(x, alone[f"{i}_{j}"], atol=1e-5)
"""


def test_eight_devices_compute_what_one_does(alone, tmp_path):
    leaves = {
        f"{i}_{j}": np.asarray(x)
        for i, member in enumerate(alone)
        for j, x in enumerate(numbers(member))
    }
    np.savez(tmp_path / "alone.npz", **leaves)
    here = Path(__file__).parents[1]
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": f"{here}:{here.parent}",
    }
    command = [sys.executable, "-c", ON_EIGHT_DEVICES, str(tmp_path / "alone.npz")]
    subprocess.run(command, env=environment, check=True)
