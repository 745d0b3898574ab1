"""What a finished run shows of a maze: positions, the data's paths, values."""

import types

import jax
import numpy as np
import pytest

from iql_jax.algorithm import AgentConfig, create_state
from iql_jax.data.scores import ScoreRule
from iql_jax.envs.description import EnvironmentDescription
from iql_jax.training import report

MEAN, STD = np.array([1.0, -2.0, 5.0], np.float32), np.array([0.5, 4.0, 9.0], np.float32)


def maze_dataset(observations, next_observations, *, normalized):
    return types.SimpleNamespace(
        transitions={
            "observations": np.asarray(observations, np.float32),
            "next_observations": np.asarray(next_observations, np.float32),
        },
        environment=EnvironmentDescription(
            spec="",
            observation_dim=3,
            action_dim=1,
            observation_mean=MEAN if normalized else None,
            observation_std=STD if normalized else None,
        ),
    )


def test_paths_are_in_meters_whether_observations_are_normalized_or_not():
    path = np.array([[2.0, 2.0, 0.0], [0.5, -6.0, 1.0]], np.float32)
    result = types.SimpleNamespace(trajectories=[path])
    (plain,) = report.shown_paths(maze_dataset(path, path, normalized=False), result)
    np.testing.assert_array_equal(plain, [[2, 2], [0.5, -6]])
    (meters,) = report.shown_paths(maze_dataset(path, path, normalized=True), result)
    # Times the standard deviation, plus the mean: 2 x 0.5 + 1, 2 x 4 - 2; 0.5 x 0.5 + 1, -24 - 2.
    np.testing.assert_array_equal(meters, [[2, 6], [1.25, -26]])


def test_the_datas_paths_are_cut_where_episodes_end():
    rows = [[x, 0, 0] for x in (0, 1, 2, 10, 11, 20)]
    following = [[x, 0, 0] for x in (1, 2, 3, 11, 12, 21)]  # 3, 12 and 21 end the episodes.
    paths = report._data_paths(maze_dataset(rows, following, normalized=False))
    # Of the last only one position is there, which is no path.
    assert [path[:, 0].tolist() for path in paths] == [[0, 1, 2], [10, 11]]


@pytest.mark.parametrize(
    ("kind", "expected"),
    # Wilson: (16 + 1.92) / 23.84 -+ 1.96 / 23.84 sqrt(20 * 0.16 + 0.96). t(19) = 2.093.
    [("success", [58.4, 91.9]), ("none", [0.6174, 0.9826]), ("normalized", [11.74, 48.26])],
)
def test_the_interval_of_a_score(kind, expected):
    row = {"episodes": 20.0, "success_rate": 0.8, "return_mean": 0.8, "return_std": 0.3803}
    rule = ScoreRule(kind, 0.5, 1.5) if kind == "normalized" else ScoreRule(kind)
    assert report._interval(row, rule) == pytest.approx(expected, rel=1e-3)
    assert report._interval({**row, "episodes": 1.0}, ScoreRule("none")) is None
    assert report._interval({}, rule) is None


def test_values_are_those_of_the_network_in_whatever_chunks():
    state = create_state(jax.random.key(0), 3, 1, AgentConfig(hidden_dims=(4,)))
    observations = np.random.default_rng(0).normal(size=(10_001, 3)).astype(np.float32)
    values = report.state_values(state, observations)
    assert values.shape == (10_001,)
    for i in (0, 5_000, 5_001, 10_000):
        alone = state.value.apply_fn(state.value.params, observations[i : i + 1])
        np.testing.assert_allclose(values[i], alone[0], rtol=1e-5)
