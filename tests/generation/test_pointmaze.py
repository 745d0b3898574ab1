"""PointMaze: the controller, and the episodes that are collected."""

import dataclasses
import itertools

import numpy as np
import pytest

from iql_jax.envs.mazes import GOAL_RADIUS
from iql_jax.generation import pointmaze
from iql_jax.generation.pointmaze import collect
from iql_jax.generation.procedure import Shard

SHARD = Shard(pointmaze.TASKS["umaze"], seed=1, first=0, count=1, steps=800)


@pytest.fixture(scope="module")
def episodes():
    return collect(SHARD, lambda: None)


def test_the_action_is_proportional_to_the_offset_and_damped():
    controller = pointmaze.PointController(pointmaze.TASKS["umaze"].planner())
    controller.head_for(np.array([0.25, 1.0]))  # In cell (1, 2).
    # From cell (1, 1) to the goal: 10 * 0.09 - 0.5 and 10 * -0.02 - (-0.1).
    action = controller.action([-0.5 - 1e-9, 1.02, 7.0, -0.1])
    np.testing.assert_allclose(action, (0.5, -0.1), atol=1e-6)
    assert controller.action([-1.0, 1.0, 0.0, 0.0])[0] == 1.0


def test_each_episode_has_one_goal_ends_where_it_is_reached_and_another_follows(episodes):
    assert sum(map(len, episodes)) == SHARD.steps
    for episode in episodes:
        goals = episode.observations["desired_goal"]
        assert (goals == goals[0]).all()
        offsets = episode.observations["achieved_goal"] - goals
        at_goal = np.linalg.norm(offsets, axis=-1) <= GOAL_RADIUS
        np.testing.assert_array_equal(episode.rewards, at_goal[1:])
        assert not episode.terminations.any()
        assert np.flatnonzero(episode.truncations).tolist() == [len(episode) - 1]
    for episode in episodes[:-1]:
        assert np.flatnonzero(episode.rewards).tolist() == [len(episode) - 1]
    for before, after in itertools.pairwise(episodes):
        last, first = before.observations, after.observations
        np.testing.assert_array_equal(last["observation"][-1], first["observation"][0])
        assert (last["desired_goal"][-1] != first["desired_goal"][0]).any()


def test_a_new_goal_after_the_last_step_makes_no_empty_episode(episodes):
    first = dataclasses.replace(SHARD, steps=len(episodes[0]))
    assert [len(episode) for episode in collect(first, lambda: None)] == [first.steps]
