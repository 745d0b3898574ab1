"""What the speed of the update is compared with has to do the same work."""

import chex
import jax
import numpy as np
import optax
import pytest
from absl import flags

from antmaze_size import new_state
from iql_jax.algorithm.learner import update
from iql_jax.algorithm.types import Transitions
from update_variants import table, update_in_passes, with_optimizer, with_stacked_critics


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return Transitions(
        observations=rng.normal(size=(16, 29)).astype(np.float32),
        actions=rng.uniform(-1, 1, (16, 8)).astype(np.float32),
        rewards=-np.ones(16, np.float32),
        masks=np.ones(16, np.float32),
        next_observations=rng.normal(size=(16, 29)).astype(np.float32),
    )


@pytest.fixture(scope="module")
def expected(batch):
    return learned(update, new_state(0), batch)


def learned(one_update, state, batch):
    """The actor, a leaf a vector, and Q of the batch, after two updates."""
    program = jax.jit(one_update)
    for _ in range(2):
        state, _ = program(state, batch)
    q = state.critic.apply_fn(state.target_critic_params, batch.observations, batch.actions)
    return state.actor.params, q


@pytest.mark.parametrize(
    ("one_update", "state"),
    [
        (update_in_passes, lambda: new_state(0)),
        (update, with_stacked_critics),
        (update, lambda: with_optimizer(optax.flatten(optax.scale_by_adam()))),
    ],
    ids=["two passes", "stacked critics", "flat Adam"],
)
def test_another_way_to_write_the_update_learns_the_same(one_update, state, batch, expected):
    chex.assert_trees_all_close(learned(one_update, state(), batch), expected, atol=2e-5)


def test_a_variant_is_compared_with_the_update_in_the_same_repeat():
    flags.FLAGS.mark_as_parsed()
    shown = table({"as it is": [100.0, 50.0, 80.0], "other": [50.0, 50.0, 60.0]})
    assert "| as it is | 80 | 50 to 100 | 12.50 | 1.00 (1.00 to 1.00) |" in shown
    assert "| other | 50 | 50 to 60 | 20.00 | 0.75 (0.50 to 1.00) |" in shown


def test_without_adam_it_learns_something_else(batch, expected):
    actor, _ = learned(update, with_optimizer(optax.identity()), batch)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(actor, expected[0], atol=2e-5)
