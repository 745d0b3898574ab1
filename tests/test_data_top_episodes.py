import numpy as np
import pytest

from iql_jax.data.top_episodes import episode_returns, top_episodes, transitions_of


def test_returns_are_summed_episode_by_episode():
    rewards = np.float32([1, 2, 3, -4, 0, 0.5])
    np.testing.assert_array_equal(episode_returns(rewards, np.array([3, 1, 2])), [6, -4, 0.5])


def test_long_episodes_lose_no_digits():
    # 2**24 + 1 is no float32.
    rewards = np.float32([2**24, 1, 1])
    assert episode_returns(rewards, np.array([3]))[0] == 2**24 + 2


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (1.0, [0, 1, 2, 3, 4]),
        (0.8, [0, 1, 3, 4]),
        (0.6, [1, 3, 4]),  # Returns 7, 7, 9.
        (0.4, [1, 3]),  # 9, and the earlier of two with 7.
        (0.2, [3]),
        (0.001, [3]),  # At least one.
    ],
)
def test_the_highest_returns_in_the_datasets_order(share, expected):
    returns = np.array([0.0, 7.0, -1.0, 9.0, 7.0])
    np.testing.assert_array_equal(top_episodes(returns, share), expected)


def test_of_equal_returns_the_first_are_kept():
    np.testing.assert_array_equal(top_episodes(np.zeros(1000), 0.1), np.arange(100))


def test_where_the_transitions_of_some_episodes_lie():
    lengths = np.array([2, 1, 3, 2])
    np.testing.assert_array_equal(transitions_of(np.array([0, 2]), lengths), [0, 1, 3, 4, 5])
