"""Discrete actions as one-hot vectors."""

import numpy as np
import pytest

from iql_jax.data.actions import one_hot
from iql_jax.data.metadata import DiscreteActions
from iql_jax.generation.generate import generate
from iql_jax.training.config import Config
from iql_jax.training.run import load_source
from iql_jax.utils.errors import UserError


def test_a_dataset_loads_as_one_hot_actions(data_folders):
    generate("iql/discrete-umaze-v0", progress=False)
    config = Config(dataset="iql/discrete-umaze-v0", objective="sarsa", progress=False)
    dataset = load_source(config)
    actions, following = dataset.transitions["actions"], dataset.transitions["next_actions"]
    assert dataset.discrete_actions
    assert dataset.environment.discrete_start == 0
    assert dataset.record["choices"]["discrete"] == {"n": 4, "start": 0}
    assert actions.shape[1] == 4
    np.testing.assert_array_equal(actions.sum(axis=1), 1)
    masks = dataset.transitions["next_action_masks"]
    np.testing.assert_array_equal(following[:-1][masks[:-1] == 1], actions[1:][masks[:-1] == 1])
    assert (masks == 0).sum() == 100


def test_an_action_outside_its_space():
    space = DiscreteActions(n=3, start=1)
    encoded = one_hot(np.float32([[1], [3]]), space, "a/b-v0")
    np.testing.assert_array_equal(encoded, [[1, 0, 0], [0, 0, 1]])
    with pytest.raises(UserError, match=r"action 4, but its .* integers from 1 to 3"):
        one_hot(np.float32([[1], [4]]), space, "a/b-v0")
