"""Evaluation environments: safe to build, and laid out as the data are."""

import dataclasses
import json
import pickle
import subprocess
import sys
import tempfile
from importlib import metadata

import gymnasium as gym
import gymnasium_robotics
import numpy as np
import pytest
from gymnasium_robotics.envs.maze import maps
from minari_datasets import ANT_MAZE, ANT_MAZE_V5, maze_spec, spec_json
from packaging.version import Version

from iql_jax.envs import specs as environment_specs
from iql_jax.envs.description import EnvironmentDescription, MazeTask
from iql_jax.envs.make import make_environment
from iql_jax.envs.mazes import GOAL_RADIUS, MazeMap
from iql_jax.envs.specs import (
    KNOWN_NAMESPACES,
    check_namespace,
    make_from_spec,
    parse_spec,
)
from iql_jax.utils.errors import NoEnvironment, UserError

gym.register_envs(gymnasium_robotics)

CORRIDOR = [[1, 1, 1, 1], [1, "r", "g", 1], [1, 1, 1, 1]]  # r at x = -0.5, g at x = 0.5.
PENDULUM = spec_json("gymnasium.envs.classic_control.pendulum:PendulumEnv", "Pendulum-v1", 200)
STRANGER = spec_json("stranger_envs:StrangerEnv", "Stranger-v0")


def recipe_of(spec, keys=(), maze=None, **fields):
    return EnvironmentDescription(
        spec=spec,
        kwargs=fields.pop("kwargs", {}),
        observation_keys=keys,
        observation_mean=None,
        observation_std=None,
        maze=maze,
        **fields,
    )


def corridor_recipe(goal=(0.5, 0.0), keys=("observation",), **fields):
    return recipe_of(
        maze_spec(CORRIDOR, continuing_task=True),
        keys,
        MazeTask(MazeMap.from_lists(CORRIDOR, 1), goal),
        kwargs={"continuing_task": False},
        **fields,
    )


@pytest.fixture
def made():
    """Builds environments and closes them."""
    envs = []

    def make(recipe, **kwargs):
        envs.append(make_environment(recipe, **kwargs))
        return envs[-1]

    yield make
    for env in envs:
        env.close()


# What may be imported.


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module that leaves a trace as soon as it is imported."""
    trace = tmp_path / "trace"
    (tmp_path / "stranger_envs.py").write_text(
        f"open({str(trace)!r}, 'w').close()\n"
        "import gymnasium as gym\n"
        "class StrangerEnv(gym.Env):\n"
        "    observation_space = action_space = gym.spaces.Box(-1, 1, (2,))\n"
        "class StrangerWrapper(gym.Wrapper): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield trace
    sys.modules.pop("stranger_envs", None)


def test_an_unknown_namespace_is_refused_before_it_is_imported(stranger):
    # What may be done about it without an environment is the caller's to say.
    with pytest.raises(NoEnvironment, match=r"stranger_envs:StrangerEnv.*only with trust_env"):
        make_environment(recipe_of(STRANGER))
    assert not stranger.exists()
    assert "stranger_envs" not in sys.modules


def test_a_trusted_environment_is_built(stranger, made):
    env = made(recipe_of(STRANGER, trusted=True, observation_dim=2, action_dim=2))
    assert stranger.exists()
    assert type(env.unwrapped).__name__ == "StrangerEnv"


def test_an_unknown_wrapper_is_refused_before_it_is_imported(stranger):
    fields = json.loads(PENDULUM)
    fields["additional_wrappers"] = [
        {"name": "W", "entry_point": "stranger_envs:StrangerWrapper", "kwargs": {}}
    ]
    with pytest.raises(UserError, match="stranger_envs:StrangerWrapper"):
        make_environment(recipe_of(json.dumps(fields)))
    assert not stranger.exists()


def test_a_known_wrapper_is_applied():
    fields = json.loads(PENDULUM)
    wrapper = {"entry_point": "gymnasium.wrappers:ClipReward", "kwargs": {"min_reward": -0.25}}
    fields["additional_wrappers"] = [{"name": "ClipReward", **wrapper}]
    env = make_from_spec(json.dumps(fields), {})
    env.reset(seed=0)
    assert all(env.step([2.0])[1] >= -0.25 for _ in range(20))
    env.close()


@pytest.mark.parametrize(
    "entry_point",
    [
        "gymnasium.envs.registration:make",  # Would import the module that its id names.
        "gymnasium.utils.env_checker:check_env",
        "gymnasium_robotics_evil.envs:Env",
        "gymnasium.envs.mujoco_evil:Env",
        "os:system",
        "None",
    ],
)
def test_known_namespaces_are_whole_packages_of_environments(entry_point):
    with pytest.raises(UserError, match="not in a known namespace"):
        check_namespace(parse_spec(spec_json(entry_point, "X-v0")))


@pytest.mark.parametrize(
    "name",
    [
        "gymnasium.envs.mujoco.mujoco_env:expand_model_path",
        "gymnasium.envs.mujoco.mujoco_env:Space",
    ],
)
def test_only_classes_of_environments_are_called(name):
    with pytest.raises(UserError, match=r"is no <class 'gymnasium\.core\.Env'>"):
        make_from_spec(spec_json(name, "X-v0"), {})


def test_every_environment_of_the_known_packages_passes():
    for spec in gym.registry.values():
        if str(spec.entry_point).startswith(KNOWN_NAMESPACES):
            check_namespace(parse_spec(spec.to_json()))


def test_specifications_of_older_gymnasiums():
    fields = json.loads(PENDULUM)
    fields |= {"autoreset": False, "apply_api_compatibility": False, "kwargs": None}
    del fields["additional_wrappers"]
    spec = parse_spec(json.dumps(fields))
    assert (spec.id, spec.max_episode_steps, spec.kwargs) == ("Pendulum-v1", 200, {})
    fields["autoreset"] = True
    with pytest.raises(UserError, match="autoreset=True"):
        parse_spec(json.dumps(fields))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"id": "no version"}', '{"id": "A-v0", "new": 1}']
)
def test_what_is_no_specification(text):
    with pytest.raises(UserError, match="specification cannot be read"):
        parse_spec(text)


def test_a_stored_render_mode_opens_no_window(made):
    spec = PENDULUM.replace('"kwargs": {}', '"kwargs": {"render_mode": "human"}')
    assert made(dataclasses.replace(pendulum_recipe(), spec=spec)).render_mode is None


# What does not build.


def test_an_environment_that_does_not_build_says_why(monkeypatch):
    def broken(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(environment_specs.gym, "make", broken)
    kitchen = spec_json(
        "gymnasium_robotics.envs.franka_kitchen.kitchen_env:KitchenEnv", "FrankaKitchen-v1"
    )
    with pytest.raises(NoEnvironment) as caught:
        make_environment(recipe_of(kitchen, requirements=("mujoco==3.1.6",)))
    message = str(caught.value)
    for part in (
        "FrankaKitchen-v1",
        "AssertionError",
        f"mujoco {sys.modules['mujoco'].__version__}",
    ):
        assert part in message
    assert "asks for: mujoco==3.1.6" in message
    assert "mujoco<3.12" in message
    assert "--config" not in message
    assert "\n" not in message


def test_the_kitchen_builds_or_says_which_mujoco_it_needs():
    kitchen = spec_json("gymnasium_robotics.envs.franka_kitchen:KitchenEnv", "FrankaKitchen-v1")
    if Version(metadata.version("mujoco")) < Version("3.12"):
        make_from_spec(kitchen, {}).close()
        return
    with pytest.raises(UserError, match=r"does not build.*pip install 'mujoco<3\.12'"):
        make_from_spec(kitchen, {})


def test_a_module_that_is_missing():
    with pytest.raises(
        UserError, match=r"does not build: ModuleNotFoundError.*installed: gymnasium"
    ):
        make_from_spec(spec_json("gymnasium.envs.mujoco.hopper_v99:HopperEnv"), {})


def test_without_a_time_limit_there_is_no_evaluation():
    with pytest.raises(NoEnvironment, match="no time limit"):
        make_environment(recipe_of(PENDULUM.replace("200", "null")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"observation_dim": 5}, "observations have 5 numbers.*Pendulum-v1 have 3"),
        ({"action_dim": 2}, "actions have 2 numbers.*Pendulum-v1 have 1"),
        (
            {"action_low": None, "action_high": None},
            r"actions lie in \[-1.0, 1.0\].*in \[\[-2.\], \[2.\]\]",
        ),
        ({"observation_keys": ("state",)}, "entry 'state'"),
    ],
)
def test_spaces_that_are_not_the_datasets(fields, message):
    with pytest.raises(UserError, match=message):
        make_environment(dataclasses.replace(pendulum_recipe(), **fields))


CART = spec_json("gymnasium.envs.classic_control.cartpole:CartPoleEnv", "CartPole-v1", 500)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"actions are continuous, but those of its environment CartPole-v1 are Discrete\(2\)"),
        ({"action_dim": 3, "discrete_start": 0}, r"are Discrete\(3\), but .* are Discrete\(2\)"),
        ({"action_dim": 2, "discrete_start": 1}, r"Discrete\(2, start=1\), but .* Discrete\(2\)"),
    ],
)
def test_discrete_spaces_that_are_not_the_datasets(fields, message):
    with pytest.raises(UserError, match=message):
        make_environment(recipe_of(CART, **fields))


def test_one_hot_actions_are_the_environments_integers(made):
    env, plain = made(recipe_of(CART, action_dim=2, discrete_start=0)), gym.make("CartPole-v1")
    assert env.action_space == gym.spaces.Box(0, 1, (2,), np.float32)
    np.testing.assert_array_equal(env.reset(seed=1)[0], plain.reset(seed=1)[0])
    for choice in (0, 1, 1, 0):
        expected = plain.step(choice)[0]
        np.testing.assert_array_equal(env.step(np.eye(2, dtype=np.float32)[choice])[0], expected)


# The layout.


def pendulum_recipe(**fields):
    low, high = np.float32([-2]), np.float32([2])
    return recipe_of(
        PENDULUM, observation_dim=3, action_dim=1, action_low=low, action_high=high, **fields
    )


def test_actions_are_scaled_and_observations_normalized(made):
    plain = gym.make("Pendulum-v1")
    mean, std = np.float32([1, 2, 3]), np.float32([2, 4, 8])
    recipe = dataclasses.replace(pendulum_recipe(), observation_mean=mean, observation_std=std)
    env = made(recipe)
    assert env.action_space == gym.spaces.Box(-1, 1, (1,), np.float32)
    assert env.observation_space.shape == (3,)
    expected = plain.reset(seed=3)[0]
    observation, _ = env.reset(seed=3)
    for action in (-1.0, -0.5, 0.25, 1.0):
        assert observation.dtype == np.float32
        np.testing.assert_array_equal(observation, (expected - mean) / std)
        np.testing.assert_allclose(recipe.unnormalized(observation), expected, rtol=1e-5, atol=1e-6)
        observation, reward, *_ = env.step(np.float32([action]))
        expected, expected_reward, *_ = plain.step(np.float32([2 * action]))
        assert reward == pytest.approx(expected_reward)
    plain.close()


def test_the_time_limit_is_the_specifications(made):
    env = made(pendulum_recipe())
    env.reset(seed=0)
    ends = [env.step(np.float32([0]))[3] for _ in range(200)]
    assert ends == [False] * 199 + [True]


def test_entries_are_concatenated_in_the_given_order(made):
    keys = ("desired_goal", "observation")
    env = made(corridor_recipe(goal=None, keys=keys, observation_dim=6, action_dim=2))
    plain = gym.make("PointMaze_UMaze-v3", maze_map=CORRIDOR)
    raw, _ = plain.reset(seed=1)
    observation, _ = env.reset(seed=1)
    expected = np.concatenate([raw["desired_goal"], raw["observation"]]).astype(np.float32)
    np.testing.assert_array_equal(observation, expected)
    plain.close()


@pytest.mark.parametrize(
    ("entry_point", "kwargs", "dim"),
    [
        (ANT_MAZE, {}, 29),
        (ANT_MAZE_V5, {"include_cfrc_ext_in_observation": False}, 29),
        (ANT_MAZE_V5, {}, 107),
    ],
)
def test_the_ants_observation_begins_with_its_position(made, entry_point, kwargs, dim):
    maze = MazeMap.from_lists(CORRIDOR, 4)
    env = made(
        recipe_of(
            maze_spec(CORRIDOR, entry_point),
            ("achieved_goal", "observation"),
            MazeTask(maze, (2.0, 0.0)),
            kwargs={"continuing_task": False, **kwargs},
            observation_dim=dim,
            action_dim=8,
        )
    )
    observation, info = env.reset(seed=0)
    data = env.unwrapped.data
    np.testing.assert_array_equal(observation[:29], np.float32([*data.qpos[:15], *data.qvel]))
    assert info["success"] is False
    assert env.unwrapped.goal.tolist() == [2.0, 0.0]


# Mazes.


def test_a_fixed_goal_replaces_the_one_that_is_drawn(made):
    env = made(corridor_recipe(goal=(0.5, 0.0), keys=("desired_goal",)))
    drawn = gym.make("PointMaze_UMaze-v3", maze_map=CORRIDOR)
    for seed in range(3):
        assert drawn.reset(seed=seed)[0]["desired_goal"].tolist() != [0.5, 0.0]
        assert env.reset(seed=seed)[0].tolist() == [0.5, 0.0]
        assert env.step(np.float32([0, 0]))[0].tolist() == [0.5, 0.0]
        site = env.unwrapped.model.site_pos[env.unwrapped.target_site_id]
        assert site[:2].tolist() == [0.5, 0.0]
    drawn.close()


def test_success_ends_the_episode_at_the_radius(made):
    env = made(corridor_recipe())
    observation, info = env.reset(seed=0)
    assert info["success"] is False
    for _ in range(200):
        observation, reward, terminated, truncated, info = env.step(np.float32([1, 0]))
        distance = np.linalg.norm(observation[:2] - [0.5, 0.0])
        assert terminated == info["success"] == (reward == 1) == (distance <= GOAL_RADIUS)
        assert not truncated
        if terminated:
            break
    assert terminated
    assert distance > 0.3  # The first step inside.


def test_a_goal_that_is_drawn_stays_where_it_is(made):
    recipe = corridor_recipe(goal=None, keys=("observation", "desired_goal"))
    env = made(dataclasses.replace(recipe, spec=maze_spec(maps.OPEN_DIVERSE_GR)))
    goals = set()
    for seed in range(4):
        observation, _ = env.reset(seed=seed)
        goal = observation[4:].tolist()
        goals.add(tuple(goal))
        assert env.step(np.float32([0, 1]))[0][4:].tolist() == goal
    assert len(goals) == 4


def test_nothing_is_left_in_the_temporary_folder(made, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    env = made(corridor_recipe())
    env.reset(seed=0)
    assert list(tmp_path.iterdir()) == []


def test_rendering(made):
    assert made(corridor_recipe()).render_mode is None
    assert made(corridor_recipe(), render_mode="rgb_array").render_mode == "rgb_array"


def test_a_recipe_travels(made):
    recipe = pickle.loads(pickle.dumps(corridor_recipe(observation_dim=4, action_dim=2)))
    first, second = made(recipe), made(recipe)
    for env in (first, second):
        env.reset(seed=5)
    action = np.float32([0.5, -0.5])
    np.testing.assert_array_equal(first.step(action)[0], second.step(action)[0])


def test_importing_it_does_not_import_jax():
    code = (
        "import sys, iql_jax.envs.make, iql_jax.envs.mazes, iql_jax.generation.catalog\n"
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
