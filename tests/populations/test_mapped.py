"""The mapped update: N members together are N learners on their own."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import ACTION_DIM, OBSERVATION_DIM, make_transitions
from small_runs import arrays

from iql_jax.algorithm import AgentConfig, Transitions, create_state, update_n
from iql_jax.populations.mapped import Placement, Pool, stack, update_population_n

MEMBERS = [
    {},
    {"expectile": 0.9, "temperature": 10.0},
    {"actor_lr": 1e-3, "value_lr": 2e-3, "critic_lr": 3e-3, "tau": 0.1, "discount": 0.9},
    {"max_weight": 1.0, "dropout_rate": 0.4, "opt_decay_schedule": "none"},
]
UPDATES = 20


def make(i):
    config = AgentConfig(hidden_dims=(8,), **{"dropout_rate": 0.1, **MEMBERS[i]})
    return create_state(jax.random.key(i), OBSERVATION_DIM, ACTION_DIM, config)


def data(size=64, seed=0):
    return {k: v for k, v in vars(make_transitions(size, seed)).items() if v is not None}


def assert_close(actual, expected, atol):
    for x, y in zip(arrays(actual), arrays(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=atol)


def alone(i, dataset):
    transitions = jax.device_put(Transitions(**dataset))
    return update_n(make(i), transitions, UPDATES, batch_size=8)


def together(indices, in_turn, datasets):
    """Each member's state and metrics, trained with the others."""
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
def singles():
    same = data()
    return [alone(i, same) for i in range(len(MEMBERS))]


@pytest.mark.parametrize("in_turn", [True, False])
def test_a_population_is_its_members_on_their_own(singles, in_turn):
    members = together(range(4), in_turn, [data()] * 4)
    for actual, expected in zip(members, singles, strict=True):
        assert_close(actual, expected, atol=0.0 if in_turn else 1e-5)


def test_members_may_have_data_of_their_own(singles):
    same, other = data(), data(40, seed=1)
    members = together([0, 1, 2], True, [other, same, other])
    for actual, expected in zip(
        members, [alone(0, other), singles[1], alone(2, other)], strict=True
    ):
        assert_close(actual, expected, atol=0.0)


def test_other_members_compile_nothing_anew(singles):
    same = data()
    together([2, 0], True, [same, same])
    before = update_population_n._cache_size()
    for i, actual in zip([1, 3], together([1, 3], True, [same, same]), strict=True):
        assert_close(actual, singles[i], atol=0.0)
    assert update_population_n._cache_size() == before


def test_a_pool_holds_each_dataset_once():
    one, other = data(), data(40, seed=1)
    pool = Pool.of([other, one, other])
    assert (pool.first.tolist(), pool.size.tolist()) == ([0, 40, 0], [40, 64, 40])
    assert pool.transitions.size == 104
    np.testing.assert_array_equal(pool.transitions.rewards[40:], one["rewards"])
    assert Pool.of([one, one]).transitions.rewards is one["rewards"]


ON_TWO_DEVICES = """
import sys
import jax, numpy as np
from test_mapped import arrays, data, together
assert jax.device_count() == 2
# Two on the first device; on the second, one and a copy of it.
for i, member in enumerate(together([0, 1, 2], True, [data()] * 3)):
    np.savez(f"{sys.argv[1]}/{i}.npz", *arrays(member))
"""


def test_two_devices_compute_what_one_does(singles, tmp_path):
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": f"{here}:{here.parent}:{here.parents[1]}",
    }
    subprocess.run([sys.executable, "-c", ON_TWO_DEVICES, tmp_path], env=environment, check=True)
    for i in range(3):
        with np.load(tmp_path / f"{i}.npz") as found:
            for x, y in zip(found.values(), arrays(singles[i]), strict=True):
                np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)
