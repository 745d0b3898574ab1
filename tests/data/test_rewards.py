"""Reward transforms: their numbers, and what is said of them."""

import numpy as np
import pytest

from iql_jax.data.rewards import RewardTransform, episode_returns, reward_transform
from iql_jax.utils.errors import UserError

REWARDS, LENGTHS = np.float32([1, 2, 3, -4, 0, 0.5]), np.array([3, 1, 2])  # Returns 6, -4, 0.5.


def test_returns_are_summed_episode_by_episode():
    np.testing.assert_array_equal(episode_returns(REWARDS, LENGTHS), [6, -4, 0.5])
    # 2**24 + 1 is no float32.
    assert episode_returns(np.float32([2**24, 1, 1]), np.array([3]))[0] == 2**24 + 2


def test_transforms():
    assert reward_transform("none", REWARDS, LENGTHS) == (RewardTransform(), [])
    minus_one, _ = reward_transform("minus_one", REWARDS, LENGTHS)
    np.testing.assert_array_equal(minus_one([1.0, 0.0]), [0, -1])
    by_range, notes = reward_transform("return_range", REWARDS, LENGTHS)
    assert by_range == RewardTransform(scale=100.0)
    np.testing.assert_array_equal(by_range(REWARDS), 100 * REWARDS)
    assert len(notes) == 1
    assert "multiplied by 100: returns go from -4 to 6" in notes[0]


def test_no_range_at_all_is_refused():
    with pytest.raises(UserError, match="all 3 episodes return 3; use 'none'"):
        reward_transform("return_range", np.ones(9, np.float32), np.array([3, 3, 3]))
