"""Discrete actions as one-hot vectors."""

import numpy as np
import pytest
from minari_datasets import load, write_cart_pole

from iql_jax.data.actions import one_hot
from iql_jax.data.metadata import DiscreteActions
from iql_jax.utils.errors import UserError


def test_a_dataset_loads_as_one_hot_actions(data_folders):
    dataset = load(write_cart_pole(), next_actions=True)
    assert dataset.layout.discrete_start is not None
    assert dataset.environment.discrete_start == 0
    assert dataset.record["choices"]["discrete"] == {"n": 2, "start": 0}
    left, right = [1, 0], [0, 1]
    expected = [left, right, left, left, left, right, left, right, left]
    np.testing.assert_array_equal(dataset.transitions["actions"], expected)
    masks = dataset.transitions["next_action_masks"]
    np.testing.assert_array_equal(masks, [1, 1, 0, 0, 1, 1, 1, 1, 0])
    following = dataset.transitions["next_actions"][masks == 1]
    np.testing.assert_array_equal(following, np.array(expected)[[1, 2, 5, 6, 7, 8]])


def test_an_action_outside_its_space():
    space = DiscreteActions(n=3, start=1)
    encoded = one_hot(np.float32([[1], [3]]), space, "a/b-v0")
    np.testing.assert_array_equal(encoded, [[1, 0, 0], [0, 0, 1]])
    with pytest.raises(UserError, match=r"action 4, but its .* integers from 1 to 3"):
        one_hot(np.float32([[1], [4]]), space, "a/b-v0")
