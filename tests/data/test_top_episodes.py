import numpy as np
import pytest

from iql_jax.data.top_episodes import top_episodes


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (1.0, [0, 1, 2, 3, 4]),
        (0.6, [1, 3, 4]),  # Returns 7, 7, 9.
        (0.4, [3, 4]),  # 9, and the shorter of two with 7.
        (0.2, [3]),
        (0.001, [3]),  # At least one.
    ],
)
def test_the_highest_returns_in_the_datasets_order(share, expected):
    returns = np.array([0.0, 7.0, -1.0, 9.0, 7.0])
    lengths = np.array([2, 5, 1, 9, 4])
    np.testing.assert_array_equal(top_episodes(returns, lengths, share), expected)


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        (1, [1, 2, 5]),  # The quickest, and the earlier of two with 3 steps.
        (-1, [0, 3, 4]),  # The slowest.
        (0, [0, 1, 2]),  # In the dataset's order.
    ],
)
def test_of_equal_returns_those_that_a_discount_prefers_are_kept(reward, expected):
    lengths = np.array([9, 1, 3, 8, 7, 2, 3])
    returns = np.full(7, float(reward))
    np.testing.assert_array_equal(top_episodes(returns, lengths, 3 / 7), expected)
