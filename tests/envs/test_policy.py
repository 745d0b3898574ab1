"""The NumPy policy against numbers worked out by hand."""

import numpy as np
import pytest

from iql_jax.envs.description import Layout
from iql_jax.envs.policy import NumpyPolicy, TrainedPolicy

# One hidden layer: of observation [2, 3] it is relu([2 - 3, 4 + 3 + 1]) = [0, 8].
HIDDEN = ([[1.0, 2.0], [-1.0, 1.0]], [0.0, 1.0])
OBSERVATION = np.float32([2, 3])


def policy(output, log_std=None):
    return NumpyPolicy.from_layers([HIDDEN, output], log_std)


def gaussian(log_std=(0.0, 0.0)):
    return policy(([[9.0, 9.0], [0.125, -0.0625]], [0.0, 0.5]), log_std)  # Output [1, 0].


def categorical():
    return policy(([[9.0, 9.0, 9.0], [0.25, 0.5, 0.0]], [0.0, 0.0, 2.0]))  # Output [2, 4, 2].


def test_the_mode_of_a_gaussian_is_tanh_of_the_output():
    action = gaussian()(OBSERVATION)
    np.testing.assert_allclose(action, [np.tanh(1.0), 0.0], atol=1e-7)
    assert action.dtype == np.float32


def draws(policy, count=4_000):
    generator = np.random.default_rng(0)
    return np.stack([policy(OBSERVATION, generator) for _ in range(count)])


def test_samples_of_a_gaussian_spread_around_its_mean():
    actions = draws(gaussian(np.log([0.05, 0.2])))
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions.mean(axis=0), [np.tanh(1.0), 0.0], atol=0.01)
    np.testing.assert_allclose(actions.std(axis=0), [0.05, 0.2], rtol=0.05)


def test_samples_are_clipped_and_so_is_the_log_std():
    wide = draws(gaussian([0.0, 0.0]), 200)
    assert np.abs(wide).max() == 1
    narrow = draws(gaussian([-50.0, -50.0]), 200)  # Taken as -5.
    np.testing.assert_allclose(narrow.std(axis=0), np.exp(-5), rtol=0.2)


def test_a_categorical_policy_chooses_one_hot_vectors():
    action = categorical()(OBSERVATION)
    assert action.tolist() == [0, 1, 0]
    assert action.dtype == np.float32
    actions = draws(categorical())
    assert set(map(tuple, actions.tolist())) == {(1, 0, 0), (0, 1, 0), (0, 0, 1)}
    odds = np.exp([2.0, 4.0, 2.0])
    np.testing.assert_allclose(actions.mean(axis=0), odds / odds.sum(), atol=0.02)


@pytest.mark.parametrize("log_std", [None, [0.0, 0.0]])
def test_an_output_that_is_not_finite_is_no_finite_action(log_std):
    broken = policy(([[np.nan, 0.0], [0.0, 0.0]], [0.0, 0.0]), log_std)
    assert not np.isfinite(broken(OBSERVATION)).all()


@pytest.mark.parametrize("make", [gaussian, categorical])
def test_a_batch_is_its_observations_one_by_one(make):
    observations = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    actions = make()(observations)
    one_by_one = [[make()(observation) for observation in row] for row in observations]
    np.testing.assert_array_equal(actions, one_by_one)


def test_a_trained_policy_acts_in_the_environments_own_numbers():
    layout = Layout(
        observation_dim=2,
        action_dim=2,
        observation_keys=("a", "b/c"),
        observation_mean=np.float32([1, -1]),
        observation_std=np.float32([2, 0.5]),
        action_low=np.float32([0, -4]),
        action_high=np.float32([4, 4]),
    )
    act = TrainedPolicy(gaussian(), layout)
    expected = [2 + 2 * np.tanh(1.0), 0.0]  # (5 - 1) / 2 and (0.5 + 1) / 0.5 are [2, 3].
    one = {"a": np.array([5.0]), "b": {"c": np.array([0.5])}}
    np.testing.assert_allclose(act(one), expected, atol=1e-6)
    batch = {"a": np.full((3, 1), 5.0), "b": {"c": np.full((3, 1), 0.5)}}
    np.testing.assert_allclose(act(batch), [expected] * 3, atol=1e-6)
    chooses = TrainedPolicy(
        categorical(), Layout(observation_dim=2, action_dim=3, discrete_start=7)
    )
    assert chooses(OBSERVATION) == 8
