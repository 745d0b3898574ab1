"""The look at overfitting: data made anew, and what a run's networks make of them."""

import os

import jax
import numpy as np
import pytest

import held_out
from iql_jax.data.load import load_dataset
from iql_jax.generation.generate import generate
from iql_jax.training.config import Config
from iql_jax.training.run import initial_state
from iql_jax.utils.errors import UserError

CONFIG = Config(
    dataset="iql/pointmaze/umaze-v0",
    reward_transform="minus_one",
    normalize_observations=True,
    hidden_dims=(8, 8),
    progress=False,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held_out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        patch.setenv("IQL_JAX_CACHE", str(folder / "cache"))
        generate(CONFIG.dataset, steps=1_000, seed=3, progress=False, score_episodes=1)
        yield load_dataset(CONFIG)


def test_the_same_seed_makes_the_same_transitions(dataset):
    before = dict(os.environ)
    again = held_out.made_anew(dataset, CONFIG, 1_000, 3)
    assert dict(os.environ) == before
    for old, new in zip(jax.tree.leaves(dataset.transitions), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(old, new, rtol=1e-6, atol=1e-6)
    other = held_out.made_anew(dataset, CONFIG, 1_000, 4)
    assert (other.observations[:50] != again.observations[:50]).any(axis=1).all()
    # In the run's terms: neither is normalised by itself.
    assert np.abs(other.observations.mean(axis=0)).max() > 1e-2
    assert set(np.unique(other.rewards)) <= {-1.0, 0.0}


def test_both_columns_agree_on_the_same_data(dataset):
    state = initial_state(CONFIG, dataset)
    lines = held_out.report(state, 7, dataset, dataset.transitions).splitlines()
    assert lines[0] == "| update 7 | 1,000 of its own | 1,000 others |"
    cells = [line.strip("| ").split(" | ") for line in lines[2:9]]
    assert all(own == others for _, own, others in cells)


def test_the_numbers_are_those_of_an_update(dataset):
    state = initial_state(CONFIG, dataset)
    batch = dataset.transitions
    found = held_out.measure(state, batch)
    values = np.asarray(state.value.apply_fn(state.value.params, batch.observations))
    next_values = np.asarray(state.value.apply_fn(state.value.params, batch.next_observations))
    q = np.asarray(state.critic.apply_fn(state.critic.params, batch.observations, batch.actions))
    td = q - (batch.rewards + 0.99 * batch.masks * next_values)
    advantages = q.min(axis=0) - values  # The target critics begin as the critics.
    weights = np.minimum(np.exp(CONFIG.temperature * advantages), 100.0)
    np.testing.assert_allclose(found["TD error"], (td**2).mean(), rtol=1e-4)
    np.testing.assert_allclose(found["advantage, std"], advantages.std(), rtol=1e-3)
    np.testing.assert_allclose(found["weight"], weights.mean(), rtol=1e-3)
    share = weights.sum() ** 2 / (weights**2).sum() / len(weights)
    np.testing.assert_allclose(found["effective share"], share, rtol=1e-3)


def test_the_seed_of_the_runs_own_data_is_refused(dataset):
    held_out.check_other_seed(dataset, 4)
    with pytest.raises(UserError, match="--seed 3 is that of the run's own data"):
        held_out.check_other_seed(dataset, 3)


def test_other_data_cannot_be_made_anew(dataset):
    dataset.record["id"], name = "lab/door-v0", dataset.record["id"]
    with pytest.raises(UserError, match="lab/door-v0 cannot be made with another seed"):
        held_out.made_anew(dataset, CONFIG, 10, 1)
    dataset.record["id"] = name
