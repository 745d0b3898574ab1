"""The mapped update: N members together are N learners on their own."""

import jax
import numpy as np
import pytest
from helpers import ACTION_DIM, OBSERVATION_DIM, make_transitions
from small_runs import arrays

from iql_jax.algorithm import AgentConfig, create_state, update_n
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


def data(size, seed):
    return {k: v for k, v in vars(make_transitions(size, seed)).items() if v is not None}


# Members 0 and 2 have other data than 1 and 3, of another size.
ONE, OTHER = data(64, 0), data(40, 1)
DATASETS = [OTHER, ONE, OTHER, ONE]


def assert_close(actual, expected, atol):
    for x, y in zip(arrays(actual), arrays(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=atol)


def together(indices):
    """Each member's state and metrics, trained with the others."""
    placement = Placement(len(indices))
    population, metrics = update_population_n(
        placement.spread(stack([make(i) for i in indices])),
        placement.place(Pool.of([DATASETS[i] for i in indices])),
        np.int32(UPDATES),
        batch_size=8,
        mesh=placement.mesh,
        in_turn=False,
    )
    host, means = placement.gather(population), placement.gather(metrics)
    return [
        (placement.member(host, i), {name: mean[i] for name, mean in means.items()})
        for i in range(len(indices))
    ]


@pytest.fixture(scope="module")
def singles():
    """Each learner on its own, on its rows of common arrays: one program for all."""
    pool = Pool.of(DATASETS)
    transitions = jax.device_put(pool.transitions)
    return [
        update_n(make(i), transitions, UPDATES, batch_size=8, rows=(pool.first[i], pool.size[i]))
        for i in range(4)
    ]


def test_a_population_is_its_members_on_their_own_and_others_compile_nothing_anew(singles):
    before = update_population_n._cache_size()
    for indices in (range(4), [3, 2, 0, 0]):
        for i, actual in zip(indices, together(indices), strict=True):
            assert_close(actual, singles[i], atol=1e-5)
    assert update_population_n._cache_size() == before + 1


def test_a_pool_holds_each_dataset_once():
    pool = Pool.of([OTHER, ONE, OTHER])
    assert (pool.first.tolist(), pool.size.tolist()) == ([0, 40, 0], [40, 64, 40])
    assert pool.transitions.size == 104
    np.testing.assert_array_equal(pool.transitions.rewards[40:], ONE["rewards"])
    assert Pool.of([ONE, ONE]).transitions.rewards is ONE["rewards"]
