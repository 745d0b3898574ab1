"""The action that follows each transition, for SARSA."""

import numpy as np

from iql_jax.data.actions import next_action_fields


def test_next_actions_stay_in_their_episode():
    actions = np.arange(12, dtype=np.float32).reshape(6, 2)
    found = next_action_fields(actions, np.array([3, 1, 2]))
    expected = [[2, 3], [4, 5], [0, 0], [0, 0], [10, 11], [0, 0]]
    np.testing.assert_array_equal(found["next_actions"], expected)
    np.testing.assert_array_equal(found["next_action_masks"], [1, 1, 0, 0, 1, 0])
