"""From a config to transitions: each choice by hand-derived numbers, and all of them on record."""

import json

import gymnasium as gym
import numpy as np
import pytest
from minari_datasets import (
    BOX,
    box,
    change_metadata,
    code,
    coded_episodes,
    episode_buffer,
    load,
    spec_json,
    write_box,
    write_dataset,
)

from iql_jax.data.config import DataConfig
from iql_jax.data.load import layout
from iql_jax.utils.errors import NoEnvironment, UserError

pytestmark = pytest.mark.usefixtures("data_folders")


@pytest.fixture
def folder():
    return write_box()


def test_transitions(folder):
    found = load().transitions
    starts = [code(1, 0, 3, 4), code(1, 1, 1, 4), code(1, 2, 5, 4)]
    ends = [code(1, 0, 4, 4)[1:], code(1, 1, 2, 4)[1:], code(1, 2, 6, 4)[1:]]
    actions = [code(0, 0, 3, 2), code(0, 1, 1, 2), code(0, 2, 5, 2)]
    expected = {
        "observations": np.concatenate(starts),
        "next_observations": np.concatenate(ends),
        "actions": np.float32(np.concatenate(actions) / 1e5),
        "rewards": [0, 1, 2, 100, 200, 201, 202, 203, 204],
        # 0 at the termination alone: transitions 2 and 8 end at a time limit.
        "masks": [1, 1, 1, 0, 1, 1, 1, 1, 1],
    }
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)


@pytest.mark.parametrize("choices", [{"normalize_observations": True}, {"next_actions": True}])
def test_arrays_are_float32_and_contiguous_and_the_same_each_time(folder, choices):
    first, again = load(**choices), load(**choices)
    assert len(first.transitions) == (7 if "next_actions" in choices else 5)
    for name, array in first.transitions.items():
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, again.transitions[name])
    assert first.record == again.record


def test_the_record(folder):
    found = load()
    record = found.record
    assert json.loads(json.dumps(record)) == record
    assert (record["id"], record["transitions"], record["episodes"]) == (BOX, 9, 3)
    assert (found.size, found.layout.observation_dim, found.layout.action_dim) == (9, 4, 2)
    assert len(record["fingerprint"]) == 64
    assert record["choices"]["score"]["kind"] == "none"
    assert record["notes"] == []


def test_layouts_are_equal_where_shapes_are(folder):
    write_dataset("test/wide-v0", coded_episodes(width=5), box(5))
    config = DataConfig()
    assert layout(config, BOX) == layout(DataConfig(top_episodes=0.5), BOX)
    assert layout(config, BOX) != layout(config, "test/wide-v0")
    assert layout(config, BOX) != layout(DataConfig(maze_goal="episode"), BOX)


# The best episodes. Those of BOX return 3, 100 and 1010, in this order.


def test_the_best_are_chosen_before_rewards_and_observations_are_transformed(folder):
    # Of the returns 100 and 1010 that are kept, not of 3, 100 and 1010.
    found = load(top_episodes=0.6, reward_transform="return_range", normalize_observations=True)
    scale = 1000 / 910
    assert found.reward_transform.scale == scale
    expected = np.float32(scale) * np.float32([100, *range(200, 205)])
    np.testing.assert_array_equal(found.transitions["rewards"], expected)
    np.testing.assert_array_equal(found.transitions["masks"], [0, 1, 1, 1, 1, 1])
    actions = np.concatenate([code(0, 1, 1, 2), code(0, 2, 5, 2)]) / 1e5
    np.testing.assert_array_equal(found.transitions["actions"], actions.astype(np.float32))
    recorded = {"share": 0.6, "episodes": 2, "lowest_return": 100}
    assert found.record["choices"]["top_episodes"] == recorded
    assert "of 3 episodes are kept" in found.record["notes"][0]
    kept = np.concatenate([code(1, 1, 1, 4), code(1, 2, 5, 4)])
    np.testing.assert_allclose(found.environment.observation_mean, kept.mean(0), rtol=1e-6)


# Actions.


def test_actions_are_clipped_inside_the_unit_box():
    episodes = coded_episodes(lengths=(4,))
    episodes[0].actions[:] = [[1, -1], [0.5, 1.5], [-7, 0], [1 - 1e-6, -0.25]]
    write_dataset(BOX, episodes, box(4), env_spec=spec_json())
    found = load()
    limit = np.float32(1 - 1e-5)
    expected = [[limit, -limit], [0.5, limit], [-limit, 0], [limit, -0.25]]
    np.testing.assert_array_equal(found.transitions["actions"], np.float32(expected))
    assert "2 actions (50 %) lay outside the action space, as far as 7" in found.record["notes"][0]


def test_another_range_is_mapped_to_the_unit_box():
    episodes = coded_episodes(lengths=(3,))
    episodes[0].actions[:] = [[-2, 0], [0, 2.5], [1, 10]]
    space = gym.spaces.Box(np.float32([-2, 0]), np.float32([2, 10]))
    write_dataset(BOX, episodes, box(4), space, env_spec=spec_json())
    found = load()
    limit = 1 - 1e-5
    expected = np.float32([[-limit, -limit], [0, -0.5], [0.5, limit]])
    np.testing.assert_array_equal(found.transitions["actions"], expected)
    assert found.record["choices"]["action_range"] == [[-2, 0], [2, 10]]
    np.testing.assert_array_equal(found.environment.action_low, [-2, 0])
    np.testing.assert_array_equal(found.environment.action_high, [2, 10])


def test_actions_without_bounds_are_refused():
    write_dataset(BOX, coded_episodes(), box(4), box(2))
    with pytest.raises(UserError, match="bounds must be finite"):
        load()


# Observations.


def test_normalization(folder):
    raw, found = load().transitions, load(normalize_observations=True)
    mean = raw["observations"].astype(np.float64).mean(0)
    std = raw["observations"].astype(np.float64).std(0) + 1e-3
    np.testing.assert_allclose(found.environment.observation_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.environment.observation_std, std, rtol=1e-6)
    for name in ("observations", "next_observations"):
        expected = (raw[name] - np.float32(mean)) / np.float32(std)
        np.testing.assert_array_equal(found.transitions[name], expected)
    np.testing.assert_allclose(found.transitions["observations"].std(0), 1, atol=1e-3)
    assert found.record["choices"]["normalization"]["mean"] == pytest.approx(mean.tolist())


def test_what_never_changes_is_centered_and_not_scaled():
    observations = code(1, 0, 4, 4)
    observations[:, 2] = 7.0
    write_dataset(BOX, [episode_buffer(0, 3, observations)], box(4), env_spec=spec_json())
    found = load(normalize_observations=True)
    assert found.environment.observation_std[2] == 1.0
    np.testing.assert_array_equal(found.transitions["observations"][:, 2], np.zeros(3))


@pytest.mark.parametrize("kitchen", [False, True])
def test_entries_of_a_dict(kitchen):
    """All make up an observation; but of FrankaKitchen's, 'observation' alone."""
    kettle = gym.spaces.Dict({"kettle": box(2)})
    space = gym.spaces.Dict({"achieved_goal": kettle, "observation": box(3)})
    entries = {"observation": code(1, 0, 3, 3), "achieved_goal": {"kettle": code(2, 0, 3, 2)}}
    spec = spec_json("gymnasium_robotics.envs.franka_kitchen:KitchenEnv", "FrankaKitchen-v1")
    spec = spec if kitchen else spec_json()
    write_dataset(BOX, [episode_buffer(0, 2, entries)], space, env_spec=spec)
    found = load()
    keys = ("observation",) if kitchen else ("achieved_goal/kettle", "observation")
    assert found.environment.observation_keys == keys
    expected = np.concatenate([code(2, 0, 3, 2), code(1, 0, 3, 3)], axis=1)[:, 2 * kitchen :]
    np.testing.assert_array_equal(found.transitions["observations"], expected[:2])
    np.testing.assert_array_equal(found.transitions["next_observations"], expected[1:])


# Environments.


@pytest.mark.parametrize(
    ("spec", "reason"),
    [(None, "names no environment"), (spec_json()[:60], "specification cannot be read")],
)
def test_without_an_environment_it_loads(folder, spec, reason):
    change_metadata(folder, env_spec=spec)
    found = load()
    assert found.environment is None
    assert found.size == 9
    (note,) = found.record["notes"]
    assert reason in note
    assert note.endswith("nothing can be evaluated")
    with pytest.raises(NoEnvironment, match=reason):
        found.require_environment()


def test_an_environment_from_a_stranger_is_not_built(folder):
    change_metadata(folder, env_spec=spec_json("stranger:Env", "Stranger-v0"))
    with pytest.raises(UserError, match="stranger:Env"):
        load().require_environment()
    assert load(trusted=True).require_environment().trusted


def test_the_evaluation_environment_is_preferred(folder):
    change_metadata(folder, eval_env_spec=spec_json(id="Hopper-v5", steps=123))
    assert json.loads(load().environment.spec)["max_episode_steps"] == 123


def test_requirements_reach_the_environment(folder):
    change_metadata(folder, requirements=["no-such-package-here==1"])
    assert load().environment.requirements == ("no-such-package-here==1",)
