"""From a config to the transitions of a maze; their semantics are tested in test_mazes.py."""

import dataclasses
import json

import gymnasium as gym
import numpy as np
import pytest
from minari_datasets import (
    GOAL_SPACE,
    change_metadata,
    load,
    maze_spec,
    point_episode,
    spec_json,
    write_dataset,
)

from iql_jax.data.scores import ScoreRule
from iql_jax.envs.make import make_environment
from iql_jax.utils.errors import UserError

ID = "test/corridor-v0"
CORRIDOR = [[1, 1, 1, 1], [1, "r", "g", 1], [1, 1, 1, 1]]  # r at x = -0.5, g at x = 0.5.
WALLED = [[1, 1, 1, 1], ["r", 1, 0, "g"], [1, 1, 1, 1]]  # r at x = -1.5, g at x = 1.5.

pytestmark = pytest.mark.usefixtures("data_folders")


@pytest.fixture
def corridor():
    """One episode from x = -0.5 through the goal at 0.5 to its own goal, the start."""
    episode = point_episode(0, np.array([-0.5, 0.0, 0.5, 0.0, -0.5]), -0.5, [0, 0, 0, 1])
    spec = maze_spec(CORRIDOR, continuing_task=True, reset_target=True)
    return write_dataset(ID, [episode], GOAL_SPACE, env_spec=spec)


@pytest.mark.parametrize(
    ("choices", "rewards", "masks", "dim"),
    [
        ({}, [0, 1, 0, 0], [1, 0, 1, 1], 4),
        ({"reward_transform": "minus_one"}, [-1, 0, -1, -1], [1, 0, 1, 1], 4),
        ({"maze_terminate_at_success": False}, [0, 1, 0, 0], [1, 1, 1, 1], 4),
        ({"maze_drop": "after_success"}, [0, 1], [1, 0], 4),
        ({"maze_goal": "episode"}, [0, 0, 0, 1], [1, 1, 1, 0], 6),
        ({"maze_goal": "stored"}, [0, 0, 0, 1], [1, 1, 1, 1], 4),
    ],
)
def test_the_configs_choices_reach_a_maze(corridor, choices, rewards, masks, dim):
    found = load(ID, **choices)
    np.testing.assert_array_equal(found.transitions["rewards"], rewards)
    np.testing.assert_array_equal(found.transitions["masks"], masks)
    assert (found.size, found.layout.observation_dim, found.layout.action_dim) == (
        len(rewards),
        dim,
        2,
    )
    assert found.environment.observation_dim == dim
    assert found.environment.maze.goal == (0.5, 0.0)
    recorded = found.record["choices"]
    assert {name: recorded[name] for name in choices if name.startswith("maze")}.items() <= (
        choices.items()
    )
    assert recorded["transitions_at_goal"] == 1
    assert recorded["maze_map"] == CORRIDOR
    assert found.score_rule == ScoreRule("success")
    assert json.loads(json.dumps(found.record)) == found.record


@pytest.mark.parametrize(
    ("keys", "flat", "maze_goal"),
    [
        (["observation", "desired_goal"], False, "episode"),
        (["observation"], False, "stored"),
        (["observation"], True, "eval"),
        (sorted(GOAL_SPACE), True, "episode"),
    ],
)
def test_a_part_of_a_mazes_observation_is_enough(corridor, keys, flat, maze_goal):
    expected = load(ID, maze_goal=maze_goal)
    spec, wrapper = json.loads(maze_spec(CORRIDOR)), "gymnasium.wrappers:FilterObservation"
    wrappers = [{"name": "F", "entry_point": wrapper, "kwargs": {"filter_keys": keys}}]
    space = gym.spaces.Dict({key: GOAL_SPACE[key] for key in keys})
    whole = point_episode(0, np.array([-0.5, 0.0, 0.5, 0.0, -0.5]), -0.5, [0, 0, 0, 1])
    observations = {key: whole.observations[key] for key in keys}
    if flat:
        space = gym.spaces.flatten_space(space)
        observations = np.concatenate(list(observations.values()), axis=1)
        wrapper = "gymnasium.wrappers:FlattenObservation"
        wrappers.append({"name": "G", "entry_point": wrapper, "kwargs": {}})
    episode = dataclasses.replace(whole, observations=observations)
    text = json.dumps(spec | {"additional_wrappers": wrappers})
    write_dataset("test/part-v0", [episode], space, env_spec=text)
    found = load("test/part-v0", maze_goal=maze_goal)
    for name, array in expected.transitions.items():
        np.testing.assert_array_equal(found.transitions[name], array)
    environments = [make_environment(each.environment) for each in (found, expected)]
    one, other = (env.reset(seed=0)[0] for env in environments)
    np.testing.assert_array_equal(one, other)
    if "desired_goal" not in keys:
        with pytest.raises(UserError, match=r"do not hold.*maze_goal='stored'"):
            load("test/part-v0", maze_goal="episode")


def test_the_environment_says_what_a_mazes_data_mean(corridor):
    change_metadata(corridor, env_spec=spec_json()[:60])
    with pytest.raises(UserError, match="environment specification cannot be read"):
        load(ID)


def test_a_collecting_environment_of_another_kind_is_no_maze_to_compare_with(corridor):
    stranger = json.loads(maze_spec(CORRIDOR)) | {"entry_point": "lab.mazes:Maze"}
    change_metadata(corridor, env_spec=json.dumps(stranger), eval_env_spec=maze_spec(CORRIDOR))
    found = load(ID)
    assert found.record["choices"]["maze_map"] == CORRIDOR
    assert found.environment.maze.goal == (0.5, 0.0)


def test_the_best_episodes_of_a_maze_are_those_of_the_relabeled_rewards():
    """Episode 0 passes the evaluation goal once; episode 1, the better as stored, never does."""
    x = np.array([[-0.5, 0.0, 0.5], [-0.5, -0.5, -0.5]])
    episodes = [point_episode(e, x[e], -0.5, rewards=[e, e]) for e in range(2)]
    write_dataset(ID, episodes, GOAL_SPACE, env_spec=maze_spec(CORRIDOR))
    relabeled = load(ID, top_episodes=0.5)
    np.testing.assert_array_equal(relabeled.transitions["observations"][:, 0], [-0.5, 0])
    assert relabeled.record["choices"]["transitions_at_goal"] == 1
    stored = load(ID, top_episodes=0.5, maze_goal="stored")
    np.testing.assert_array_equal(stored.transitions["observations"][:, 0], [-0.5, -0.5])


def test_the_walls_of_the_evaluation_are_a_choice(corridor):
    change_metadata(corridor, eval_env_spec=maze_spec(WALLED))
    assert load(ID).record["choices"]["maze_map"] == CORRIDOR
    found = load(ID, maze_walls="evaluation")
    assert found.record["choices"]["maze_map"] == WALLED
    assert found.record["choices"]["positions_in_walls"] == 0.4  # Two of five.
    assert found.environment.maze.goal == (1.5, 0.0)
