"""From a config to transitions: each choice by hand-derived numbers, and all of them on record."""

import dataclasses
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
    unit_box,
    write_box,
    write_dataset,
)

from iql_jax.data.rewards import REWARD_TRANSFORMS, RewardTransform
from iql_jax.envs.make import make_environment
from iql_jax.training import config
from iql_jax.utils.errors import NoEnvironment, UserError

pytestmark = pytest.mark.usefixtures("data_folders")


@pytest.fixture
def folder():
    return write_box()


def arrays(dataset):
    return dataclasses.asdict(dataset.transitions)


def test_transitions(folder):
    found = load().transitions
    starts = [code(1, 0, 3, 4), code(1, 1, 1, 4), code(1, 2, 5, 4)]
    ends = [code(1, 0, 4, 4)[1:], code(1, 1, 2, 4)[1:], code(1, 2, 6, 4)[1:]]
    np.testing.assert_array_equal(found.observations, np.concatenate(starts))
    np.testing.assert_array_equal(found.next_observations, np.concatenate(ends))
    actions = [code(0, 0, 3, 2), code(0, 1, 1, 2), code(0, 2, 5, 2)]
    np.testing.assert_array_equal(found.actions, np.float32(np.concatenate(actions) / 1e5))
    np.testing.assert_array_equal(found.rewards, [0, 1, 2, 100, 200, 201, 202, 203, 204])
    # 0 at the termination alone: transitions 2 and 8 end at a time limit.
    np.testing.assert_array_equal(found.masks, [1, 1, 1, 0, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("choices", [{}, {"normalize_observations": True}, {"objective": "sarsa"}])
def test_arrays_are_float32_and_contiguous_and_the_same_each_time(folder, choices):
    first, again = load(**choices), load(**choices)
    for name, array in arrays(first).items():
        if name.startswith("next_action") and "objective" not in choices:
            assert array is None
            continue
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, arrays(again)[name])
    assert first.record == again.record


def test_the_record(folder):
    record = load().record
    assert json.loads(json.dumps(record)) == record
    assert record["id"] == BOX
    assert (record["transitions"], record["episodes"]) == (9, 3)
    assert (record["observation_dim"], record["action_dim"]) == (4, 2)
    assert len(record["fingerprint"]) == 64
    assert record["choices"] == {
        "observation_keys": [],
        "top_episodes": {"share": 1.0, "episodes": 3, "lowest_return": 3.0},
        "reward_transform": {"name": "none", "scale": 1.0, "shift": 0.0},
        "normalization": None,
        "action_range": None,
        "score": {"kind": "none", "ref_min": None, "ref_max": None},
    }
    assert record["notes"] == []


# The best episodes. Those of BOX return 3, 100 and 1010, in this order.


@pytest.mark.parametrize(
    ("share", "kept", "lowest"),
    [(0.01, [2], 1010), (0.34, [2], 1010), (0.6, [1, 2], 100), (1.0, [0, 1, 2], 3)],
)
def test_the_best_episodes_are_kept_whole(folder, share, kept, lowest):
    found = load(top_episodes=share)
    lengths = (3, 1, 5)
    for name, expected in {
        "observations": [code(1, e, lengths[e], 4) for e in kept],
        "next_observations": [code(1, e, lengths[e] + 1, 4)[1:] for e in kept],
        "actions": [np.float32(code(0, e, lengths[e], 2) / 1e5) for e in kept],
        "rewards": [100 * e + np.arange(lengths[e]) for e in kept],
        "masks": [np.full(lengths[e], e != 1) for e in kept],
    }.items():
        np.testing.assert_array_equal(arrays(found)[name], np.concatenate(expected), name)
        assert arrays(found)[name].flags.c_contiguous
    assert found.record["episodes"] == len(kept)
    assert found.record["transitions"] == sum(lengths[e] for e in kept)
    assert found.record["choices"]["top_episodes"] == {
        "share": share,
        "episodes": len(kept),
        "lowest_return": lowest,
    }
    assert any("of 3 episodes are kept" in note for note in found.record["notes"]) == (share < 1)


def test_the_best_are_chosen_before_rewards_and_observations_are_transformed(folder):
    # Of the returns 100 and 1010 that are kept, not of 3, 100 and 1010.
    found = load(top_episodes=0.6, reward_transform="return_range", normalize_observations=True)
    assert found.reward_transform.scale == 1000 / 910
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
    np.testing.assert_array_equal(found.transitions.actions, np.float32(expected))
    assert "2 actions (50 %) lay outside" in found.record["notes"][0]


def test_another_range_is_mapped_to_the_unit_box():
    episodes = coded_episodes(lengths=(3,))
    episodes[0].actions[:] = [[-2, 0], [0, 2.5], [1, 10]]
    space = gym.spaces.Box(np.float32([-2, 0]), np.float32([2, 10]))
    write_dataset(BOX, episodes, box(4), space, env_spec=spec_json())
    found = load()
    limit = 1 - 1e-5
    expected = np.float32([[-limit, -limit], [0, -0.5], [0.5, limit]])
    np.testing.assert_array_equal(found.transitions.actions, expected)
    assert found.record["choices"]["action_range"] == [[-2, 0], [2, 10]]
    np.testing.assert_array_equal(found.environment.action_low, [-2, 0])
    np.testing.assert_array_equal(found.environment.action_high, [2, 10])


def test_actions_without_bounds_are_refused():
    write_dataset(BOX, coded_episodes(), box(4), box(2))
    with pytest.raises(UserError, match=r"test/box-v0 has actions between.*finite bounds"):
        load()


# Rewards.


def test_minus_one(folder):
    found = load(reward_transform="minus_one")
    np.testing.assert_array_equal(found.transitions.rewards, [-1, 0, 1, 99, *range(199, 204)])
    assert found.reward_transform == RewardTransform(1.0, -1.0)
    np.testing.assert_array_equal(found.reward_transform([1.0, 0.0]), [0, -1])


def test_return_range(folder):
    # The episodes return 3, 100 and 1010.
    found = load(reward_transform="return_range")
    scale = np.float32(1000 / 1007)
    np.testing.assert_array_equal(
        found.transitions.rewards, scale * np.float32([0, 1, 2, 100, *range(200, 205)])
    )
    assert found.reward_transform(np.float32(1007)) == pytest.approx(1000)
    assert found.record["choices"]["reward_transform"]["scale"] == 1000 / 1007


def test_return_range_of_equal_returns():
    episodes = [episode_buffer(e, 2, code(1, e, 3, 4), rewards=[3 - e, e]) for e in range(3)]
    write_dataset(BOX, episodes, box(4))
    with pytest.raises(UserError, match="all 3 episodes return 3; use 'none'"):
        load(reward_transform="return_range")


def test_every_transform_of_the_config_exists():
    assert set(config._CHOICES["reward_transform"]) == set(REWARD_TRANSFORMS)


# Observations.


def test_normalization(folder):
    raw, found = load().transitions, load(normalize_observations=True)
    mean = raw.observations.astype(np.float64).mean(0)
    std = raw.observations.astype(np.float64).std(0) + 1e-3
    np.testing.assert_allclose(found.environment.observation_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.environment.observation_std, std, rtol=1e-6)
    for name in ("observations", "next_observations"):
        expected = (getattr(raw, name) - np.float32(mean)) / np.float32(std)
        np.testing.assert_array_equal(getattr(found.transitions, name), expected)
    np.testing.assert_allclose(found.transitions.observations.std(0), 1, atol=1e-3)
    assert found.record["choices"]["normalization"]["mean"] == pytest.approx(mean.tolist())


def test_what_never_changes_is_centred_and_not_scaled():
    observations = code(1, 0, 4, 4)
    observations[:, 2] = 7.0
    write_dataset(BOX, [episode_buffer(0, 3, observations)], box(4), env_spec=spec_json())
    found = load(normalize_observations=True)
    assert found.environment.observation_std[2] == 1.0
    np.testing.assert_array_equal(found.transitions.observations[:, 2], np.zeros(3))


DICT_SPACE = gym.spaces.Dict(
    {"achieved_goal": gym.spaces.Dict({"kettle": box(2)}), "observation": box(3)}
)


def dict_episode():
    observations = {"observation": code(1, 0, 3, 3), "achieved_goal": {"kettle": code(2, 0, 3, 2)}}
    return episode_buffer(0, 2, observations)


def test_all_entries_of_a_dict_make_up_an_observation():
    write_dataset(BOX, [dict_episode()], DICT_SPACE, env_spec=spec_json())
    found = load()
    assert found.environment.observation_keys == ("achieved_goal/kettle", "observation")
    expected = np.concatenate([code(2, 0, 3, 2), code(1, 0, 3, 3)], axis=1)
    np.testing.assert_array_equal(found.transitions.observations, expected[:2])
    np.testing.assert_array_equal(found.transitions.next_observations, expected[1:])


def test_of_the_kitchen_the_observation_entry_is_enough():
    entry_point = "gymnasium_robotics.envs.franka_kitchen:KitchenEnv"
    spec = spec_json(entry_point, "FrankaKitchen-v1")
    write_dataset(BOX, [dict_episode()], DICT_SPACE, env_spec=spec)
    found = load()
    assert found.environment.observation_keys == ("observation",)
    np.testing.assert_array_equal(found.transitions.observations, code(1, 0, 2, 3))


# Environments.


def test_the_recipe_builds_the_environment():
    spec = spec_json("gymnasium.envs.mujoco.hopper_v5:HopperEnv", "Hopper-v5", 7)
    episodes = [episode_buffer(0, 2, code(1, 0, 3, 11), action_dim=3)]
    write_dataset(BOX, episodes, box(11), unit_box(3), env_spec=spec)
    env = make_environment(load().environment)
    assert env.observation_space.shape == (11,)
    env.reset(seed=0)
    ends = [env.step(np.zeros(3, np.float32))[3] for _ in range(7)]
    assert ends == [False] * 6 + [True]
    env.close()


def test_the_evaluation_environment_is_preferred(folder):
    change_metadata(folder, eval_env_spec=spec_json(id="Hopper-v5", steps=123))
    assert json.loads(load().environment.spec)["max_episode_steps"] == 123


def test_a_dataset_without_environment(folder):
    change_metadata(folder, env_spec=None)
    found = load()
    assert found.environment is None
    assert "names no environment" in found.record["notes"][0]
    assert found.transitions.size == 9


def test_an_environment_from_a_stranger(folder):
    change_metadata(folder, env_spec=spec_json("stranger:Env", "Stranger-v0"))
    with pytest.raises(UserError, match="stranger:Env"):
        load()
    assert load(eval_episodes=0).transitions.size == 9
    assert load(trust_environment=True).environment.trusted


BROKEN_SPEC = spec_json()[:60]


def test_an_environment_that_cannot_be_read_is_in_the_way_of_evaluation_alone(folder):
    change_metadata(folder, env_spec=BROKEN_SPEC)
    with pytest.raises(NoEnvironment, match="environment specification cannot be read"):
        load()
    found = load(eval_episodes=0)
    assert found.environment is None
    assert found.transitions.size == 9
    (note,) = found.record["notes"]
    assert "specification cannot be read" in note
    assert note.endswith("nothing can be evaluated")


def test_requirements_are_noted(folder):
    requirements = ["numpy<1.0", "numpy>=1.0", "no-such-package-here==1", "=broken="]
    change_metadata(folder, requirements=requirements)
    found = load()
    notes = found.record["notes"]
    assert [note.split(",")[0] for note in notes] == [
        "numpy<1.0 is asked for",
        "no-such-package-here==1 is asked for",
        "the requirement '=broken=' cannot be read",
    ]
    assert found.environment.requirements == tuple(requirements)
