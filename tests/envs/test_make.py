"""Environments in the layout of the data; mazes that end at success."""

import dataclasses
import pickle
import tempfile

import gymnasium as gym
import gymnasium_robotics
import numpy as np
import pytest
from minari_datasets import ANT_MAZE, ANT_MAZE_V5, maze_spec, spec_json

from iql_jax.envs.description import EnvironmentDescription, MazeTask
from iql_jax.envs.make import _success, make_environment
from iql_jax.envs.mazes import GOAL_RADIUS, MazeMap
from iql_jax.utils.errors import NoEnvironment, UserError

gym.register_envs(gymnasium_robotics)

CORRIDOR = [[1, 1, 1, 1], [1, "r", "g", 1], [1, 1, 1, 1]]  # r at x = -0.5, g at x = 0.5.
PENDULUM = EnvironmentDescription(
    spec=spec_json("gymnasium.envs.classic_control.pendulum:PendulumEnv", "Pendulum-v1", 200),
    observation_dim=3,
    action_dim=1,
    action_low=np.float32([-2]),
    action_high=np.float32([2]),
)
UNSCALED = {"action_low": None, "action_high": None}
CART = EnvironmentDescription(
    spec=spec_json("gymnasium.envs.classic_control.cartpole:CartPoleEnv", "CartPole-v1", 500),
    observation_dim=4,
    action_dim=2,
    discrete_start=0,
)


def corridor(
    goal=(0.5, 0.0),
    keys=("observation",),
    cells=CORRIDOR,
    observation_dim=4,
    radius=GOAL_RADIUS,
):
    return EnvironmentDescription(
        spec=maze_spec(cells, continuing_task=True),
        kwargs={"continuing_task": False},
        observation_keys=keys,
        maze=MazeTask(MazeMap.from_lists(cells, 1), goal, radius),
        observation_dim=observation_dim,
        action_dim=2,
    )


# What is not the dataset's.


def test_without_a_time_limit_there_is_no_evaluation():
    endless = dataclasses.replace(PENDULUM, spec=PENDULUM.spec.replace("200", "null"))
    with pytest.raises(NoEnvironment, match="no time limit"):
        make_environment(endless)


@pytest.mark.parametrize(
    ("base", "fields", "message"),
    [
        (PENDULUM, {"observation_dim": 5}, r"5 numbers, .*Pendulum-v1 are Box.*\(3,\)"),
        (PENDULUM, {"observation_keys": ("state",)}, r"\(state\), .* Pendulum-v1 are Box"),
        (PENDULUM, {"action_dim": 2, **UNSCALED}, r"\(2,\).*Pendulum-v1 are .*\(1,\)"),
        (PENDULUM, UNSCALED, r"Box\(-1.0, 1.0, .*Box\(-2.0, 2.0"),
        (PENDULUM, {"discrete_start": 0}, r"Discrete\(1\), but .* Box"),
        (CART, {"discrete_start": None}, r"Box.* CartPole-v1 are Discrete\(2\)"),
        (CART, {"action_dim": 3}, r"Discrete\(3\), but .* Discrete\(2\)"),
        (CART, {"discrete_start": 1}, r"start=1\), but .* Discrete\(2\)"),
    ],
)
def test_spaces_that_are_not_the_datasets(base, fields, message):
    with pytest.raises(UserError, match=message):
        make_environment(dataclasses.replace(base, **fields))


# The layout.


def test_one_hot_actions_are_the_environments_integers():
    env = make_environment(CART)
    plain = gym.make("CartPole-v1")
    assert env.action_space == gym.spaces.Box(0, 1, (2,), np.float32)
    np.testing.assert_array_equal(env.reset(seed=1)[0], plain.reset(seed=1)[0])
    for choice in (0, 1, 1, 0):
        expected = plain.step(choice)[0]
        np.testing.assert_array_equal(env.step(np.eye(2, dtype=np.float32)[choice])[0], expected)


def test_actions_are_scaled_and_observations_normalized():
    plain = gym.make("Pendulum-v1")
    mean, std = np.float32([1, 2, 3]), np.float32([2, 4, 8])
    normalized = dataclasses.replace(PENDULUM, observation_mean=mean, observation_std=std)
    env = make_environment(normalized)
    assert env.action_space == gym.spaces.Box(-1, 1, (1,), np.float32)
    assert env.observation_space.shape == (3,)
    expected = plain.reset(seed=3)[0]
    observation, _ = env.reset(seed=3)
    for action in (-1.0, -0.5, 0.25, 1.0):
        assert observation.dtype == np.float32
        np.testing.assert_array_equal(observation, (expected - mean) / std)
        back = normalized.unnormalized(observation)
        np.testing.assert_allclose(back, expected, rtol=1e-5, atol=1e-6)
        observation, reward, *_ = env.step(np.float32([action]))
        expected, expected_reward, *_ = plain.step(np.float32([2 * action]))
        assert reward == pytest.approx(expected_reward)


def test_success_has_two_names():
    assert _success({"success": np.bool_(True), "other": 1}) == {"success": True}
    assert _success({"is_success": 0.0}) == {"success": False}
    assert _success({"other": 1}) == {}


# Mazes.


@pytest.mark.parametrize(
    ("entry_point", "kwargs"),
    [(ANT_MAZE, {}), (ANT_MAZE_V5, {"include_cfrc_ext_in_observation": False})],
)
def test_the_ants_observation_begins_with_its_position(entry_point, kwargs):
    env = make_environment(
        EnvironmentDescription(
            spec=maze_spec(CORRIDOR, entry_point),
            kwargs={"continuing_task": False, **kwargs},
            observation_keys=("achieved_goal", "observation"),
            maze=MazeTask(MazeMap.from_lists(CORRIDOR, 4), (2.0, 0.0)),
            observation_dim=29,
            action_dim=8,
        )
    )
    observation, info = env.reset(seed=0)
    data = env.unwrapped.data
    np.testing.assert_array_equal(observation, np.float32([*data.qpos[:15], *data.qvel]))
    assert info["success"] is False
    assert env.unwrapped.goal.tolist() == [2.0, 0.0]


def test_a_fixed_goal_replaces_the_one_that_is_drawn():
    env = make_environment(corridor(keys=("desired_goal", "observation"), observation_dim=6))
    drawn = gym.make("PointMaze_UMaze-v3", maze_map=CORRIDOR)
    for seed in range(3):
        raw = drawn.reset(seed=seed)[0]
        assert raw["desired_goal"].tolist() != [0.5, 0.0]
        expected = np.float32([0.5, 0.0, *raw["observation"]])
        np.testing.assert_array_equal(env.reset(seed=seed)[0], expected)
        assert env.step(np.float32([0, 0]))[0][:2].tolist() == [0.5, 0.0]
        site = env.unwrapped.model.site_pos[env.unwrapped.target_site_id]
        assert site[:2].tolist() == [0.5, 0.0]


def test_a_goal_that_is_drawn_stays_where_it_is():
    cells = [[1, 1, 1, 1], [1, "c", "c", 1], [1, "c", "c", 1], [1, 1, 1, 1]]
    keys = ("observation", "desired_goal")
    env = make_environment(corridor(goal=None, keys=keys, cells=cells, observation_dim=6))
    goals = [env.reset(seed=seed)[0][4:].tolist() for seed in range(4)]
    assert len(set(map(tuple, goals))) == 4
    assert env.step(np.float32([0, 1]))[0][4:].tolist() == goals[-1]


@pytest.mark.parametrize("radius", [GOAL_RADIUS, 0.5])
def test_success_ends_the_episode_at_the_radius(radius):
    env = make_environment(corridor(radius=radius))
    observation, info = env.reset(seed=0)
    assert info["success"] is False
    for _ in range(200):
        observation, reward, terminated, _, info = env.step(np.float32([1, 0]))
        distance = np.linalg.norm(observation[:2] - [0.5, 0.0])
        assert terminated == info["success"] == (reward == 1) == (distance <= radius)
        if terminated:
            break
    assert radius - 0.15 < distance  # The first step inside.


def test_a_description_travels_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    env = make_environment(corridor())
    copy = make_environment(pickle.loads(pickle.dumps(corridor())))
    np.testing.assert_array_equal(env.reset(seed=5)[0], copy.reset(seed=5)[0])
    assert list(tmp_path.iterdir()) == []
