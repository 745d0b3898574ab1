"""PointMaze: the controller, and the episodes that are collected."""

import dataclasses
import itertools

import numpy as np
import pytest
from minari_datasets import UMAZE

from iql_jax.envs.mazes import GOAL_RADIUS, MazeMap
from iql_jax.generation import pointmaze
from iql_jax.generation.maze_tasks import build_environment, build_planner
from iql_jax.generation.pointmaze import Shard, collect

SHARD = Shard(pointmaze.TASKS["umaze"], seed=1, index=0, steps=800)


@pytest.fixture(scope="module")
def episodes():
    return collect(SHARD, lambda: None)


def test_the_action_is_proportional_to_the_offset_and_damped():
    controller = pointmaze.PointController(build_planner(pointmaze.TASKS["umaze"]))
    controller.head_for(np.array([0.25, 1.0]))  # In cell (1, 2).
    # From cell (1, 1) to the goal: 10 * 0.09 - 0.5 and 10 * -0.02 - (-0.1).
    action = controller.action([-0.5 - 1e-9, 1.02, 7.0, -0.1])
    np.testing.assert_allclose(action, (0.5, -0.1), atol=1e-6)
    assert controller.action([-1.0, 1.0, 0.0, 0.0])[0] == 1.0


def test_each_episode_has_one_goal_and_ends_where_it_is_reached(episodes):
    assert sum(map(len, episodes)) == SHARD.steps
    for episode in episodes:
        goals = episode.observations["desired_goal"]
        assert (goals == goals[0]).all()
        offsets = episode.observations["achieved_goal"] - goals
        at_goal = np.linalg.norm(offsets, axis=-1) <= GOAL_RADIUS
        np.testing.assert_array_equal(episode.rewards, at_goal[1:])
        np.testing.assert_array_equal(episode.infos["success"], at_goal)
        assert not episode.terminations.any()
        assert np.flatnonzero(episode.truncations).tolist() == [len(episode) - 1]
    for episode in episodes[:-1]:
        assert np.flatnonzero(episode.rewards).tolist() == [len(episode) - 1]


def test_episodes_follow_on_one_another_with_other_goals(episodes):
    for before, after in itertools.pairwise(episodes):
        last, first = before.observations, after.observations
        np.testing.assert_array_equal(last["observation"][-1], first["observation"][0])
        assert (last["desired_goal"][-1] != first["desired_goal"][0]).any()


def test_a_new_goal_after_the_last_step_makes_no_empty_episode(episodes):
    first = dataclasses.replace(SHARD, steps=len(episodes[0]))
    assert [len(episode) for episode in collect(first, lambda: None)] == [first.steps]


def test_positions_are_free_and_actions_lead_to_the_next_state(episodes):
    maze, env = MazeMap.from_lists(UMAZE, 1.0), build_environment(pointmaze.TASKS["umaze"])
    env.reset(seed=0)
    for episode in episodes[:3]:
        states = episode.observations["observation"]
        assert maze.is_free(states[:, :2]).all()
        for t, action in enumerate(episode.actions):
            env.point_env.set_state(states[t, :2], states[t, 2:])
            observation = env.step(action)[0]
            np.testing.assert_allclose(observation["observation"], states[t + 1], atol=1e-6)
