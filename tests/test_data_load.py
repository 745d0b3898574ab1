"""From a config to transitions: each choice by hand-derived numbers, and all of them on record."""

import dataclasses
import json

import gymnasium as gym
import numpy as np
import pytest
from minari_datasets import (
    box,
    change_metadata,
    code,
    coded_episodes,
    episode_buffer,
    maze_spec,
    spec_json,
    unit_box,
    write_dataset,
)

from iql_jax.collect import catalog
from iql_jax.collect.ant_controller import packaged_controller_digest
from iql_jax.config import Config
from iql_jax.data import resolve
from iql_jax.data.download import DownloadFailed
from iql_jax.data.load import load_dataset
from iql_jax.data.rewards import REWARD_TRANSFORMS, RewardTransform
from iql_jax.data.scores import D4RL_REFERENCES, ScoreRule, normalized_score, score_rule
from iql_jax.environments import make_environment
from iql_jax.errors import NoEnvironment, UserError

BOX = "test/box-v0"


@pytest.fixture(autouse=True)
def _folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("IQL_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder():
    """Three episodes of 3, 1 and 5 transitions; the one in the middle terminates."""
    return write_dataset(BOX, coded_episodes(), box(4), env_spec=spec_json())


def load(dataset=BOX, **choices):
    return load_dataset(Config(dataset=dataset, progress=False, **choices))


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
    assert (record["id"], record["requested_id"], record["source"]) == (BOX, BOX, "local")
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
    np.testing.assert_allclose(found.recipe.observation_mean, kept.mean(0), rtol=1e-6)


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
    np.testing.assert_array_equal(found.recipe.action_low, [-2, 0])
    np.testing.assert_array_equal(found.recipe.action_high, [2, 10])


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
    for name in REWARD_TRANSFORMS:
        Config(dataset=BOX, reward_transform=name)


# Observations.


def test_normalization(folder):
    raw, found = load().transitions, load(normalize_observations=True)
    mean = raw.observations.astype(np.float64).mean(0)
    std = raw.observations.astype(np.float64).std(0) + 1e-3
    np.testing.assert_allclose(found.recipe.observation_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.recipe.observation_std, std, rtol=1e-6)
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
    assert found.recipe.observation_std[2] == 1.0
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
    assert found.recipe.observation_keys == ("achieved_goal/kettle", "observation")
    expected = np.concatenate([code(2, 0, 3, 2), code(1, 0, 3, 3)], axis=1)
    np.testing.assert_array_equal(found.transitions.observations, expected[:2])
    np.testing.assert_array_equal(found.transitions.next_observations, expected[1:])


def test_of_the_kitchen_the_observation_entry_is_enough():
    entry_point = "gymnasium_robotics.envs.franka_kitchen:KitchenEnv"
    spec = spec_json(entry_point, "FrankaKitchen-v1")
    write_dataset(BOX, [dict_episode()], DICT_SPACE, env_spec=spec)
    found = load()
    assert found.recipe.observation_keys == ("observation",)
    np.testing.assert_array_equal(found.transitions.observations, code(1, 0, 2, 3))


# Environments.


def test_the_recipe_builds_the_environment():
    spec = spec_json("gymnasium.envs.mujoco.hopper_v5:HopperEnv", "Hopper-v5", 7)
    episodes = [episode_buffer(0, 2, code(1, 0, 3, 11), action_dim=3)]
    write_dataset(BOX, episodes, box(11), unit_box(3), env_spec=spec)
    env = make_environment(load().recipe)
    assert env.observation_space.shape == (11,)
    env.reset(seed=0)
    ends = [env.step(np.zeros(3, np.float32))[3] for _ in range(7)]
    assert ends == [False] * 6 + [True]
    env.close()


def test_the_evaluation_environment_is_preferred(folder):
    change_metadata(folder, eval_env_spec=spec_json(id="Hopper-v5", steps=123))
    assert json.loads(load().recipe.spec)["max_episode_steps"] == 123


def test_a_dataset_without_environment(folder):
    change_metadata(folder, env_spec=None)
    found = load()
    assert found.recipe is None
    assert "names no environment" in found.record["notes"][0]
    assert found.transitions.size == 9


def test_an_environment_from_a_stranger(folder):
    change_metadata(folder, env_spec=spec_json("stranger:Env", "Stranger-v0"))
    with pytest.raises(UserError, match="stranger:Env"):
        load()
    assert load(eval_episodes=0).transitions.size == 9
    assert load(trust_environment=True).recipe.trusted


BROKEN_SPEC = spec_json()[:60]


def test_an_environment_that_cannot_be_read_is_in_the_way_of_evaluation_alone(folder):
    change_metadata(folder, env_spec=BROKEN_SPEC)
    with pytest.raises(NoEnvironment, match="environment specification cannot be read"):
        load()
    found = load(eval_episodes=0)
    assert found.recipe is None
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
    assert found.recipe.requirements == tuple(requirements)


# Mazes; their semantics are tested in test_data_maze.py.

CORRIDOR = [[1, 1, 1, 1], [1, "r", "g", 1], [1, 1, 1, 1]]  # r at x = -0.5, g at x = 0.5.
WALLED = [[1, 1, 1, 1], ["r", 1, 0, "g"], [1, 1, 1, 1]]  # r at x = -1.5, g at x = 1.5.


@pytest.fixture
def corridor():
    """One episode from x = -0.5 through the goal at 0.5 to its own goal, the start."""
    x = np.array([-0.5, 0.0, 0.5, 0.0, -0.5])
    position = np.stack([x, 0 * x], axis=1)
    observations = {
        "observation": np.concatenate([position, code(1, 0, 5, 2)], axis=1),
        "achieved_goal": position,
        "desired_goal": np.tile([-0.5, 0.0], (5, 1)),
    }
    space = gym.spaces.Dict(observation=box(4), achieved_goal=box(2), desired_goal=box(2))
    buffer = episode_buffer(0, 4, observations, rewards=[0, 0, 0, 1])
    return write_dataset(
        "test/corridor-v0",
        [buffer],
        space,
        env_spec=maze_spec(CORRIDOR, continuing_task=True, reset_target=True),
    )


@pytest.mark.parametrize(
    ("choices", "rewards", "masks", "dim"),
    [
        ({}, [0, 1, 0, 0], [1, 0, 1, 1], 4),
        ({"reward_transform": "minus_one"}, [-1, 0, -1, -1], [1, 0, 1, 1], 4),
        ({"maze_terminate_at_success": False}, [0, 1, 0, 0], [1, 1, 1, 1], 4),
        ({"maze_drop": "after_success"}, [0, 1], [1, 0], 4),
        ({"maze_goal": "episode"}, [0, 0, 0, 1], [1, 1, 1, 0], 6),
        ({"maze_goal": "stored"}, [0, 0, 0, 1], [1, 1, 1, 0], 4),
    ],
)
def test_the_configs_choices_reach_a_maze(corridor, choices, rewards, masks, dim):
    found = load("test/corridor-v0", **choices)
    np.testing.assert_array_equal(found.transitions.rewards, rewards)
    np.testing.assert_array_equal(found.transitions.masks, masks)
    assert found.transitions.observations.shape == (len(rewards), dim)
    assert found.transitions.actions.shape == (len(rewards), 2)
    record = found.record
    assert json.loads(json.dumps(record)) == record
    for name, value in choices.items():
        if name.startswith("maze"):
            assert record["choices"][name] == value
    assert record["choices"]["transitions_at_goal"] == 1
    assert record["choices"]["maze_map"] == CORRIDOR
    assert found.score_rule == ScoreRule("success")
    env = make_environment(found.recipe)
    observation, _ = env.reset(seed=0)
    assert observation.shape == (dim,)
    assert env.unwrapped.goal.tolist() == [0.5, 0.0]
    env.close()


def test_the_environment_says_what_a_mazes_data_mean(corridor):
    change_metadata(corridor, env_spec=BROKEN_SPEC)
    with pytest.raises(UserError, match="environment specification cannot be read"):
        load("test/corridor-v0", eval_episodes=0)


def test_walls_that_are_kept_and_do_no_harm_need_no_word(corridor):
    assert load("test/corridor-v0", maze_walls="evaluation").record["notes"] == []


def test_of_arrivals_the_quickest_are_the_best():
    """Ten episodes with 10, 9, ... 1 steps; those of an odd number of steps come to the goal."""
    episodes = []
    for e, steps in enumerate(range(10, 0, -1)):
        x = np.full(steps + 1, -0.5)
        x[-1] = 0.5 if steps % 2 else -0.5
        position = np.stack([x, 0 * x], axis=1)
        observations = {
            "observation": np.concatenate([position, code(1, e, steps + 1, 2)], axis=1),
            "achieved_goal": position,
            "desired_goal": np.tile([0.5, 0.0], (steps + 1, 1)),
        }
        episodes.append(episode_buffer(e, steps, observations))
    space = gym.spaces.Dict(observation=box(4), achieved_goal=box(2), desired_goal=box(2))
    write_dataset("test/corridor-v0", episodes, space, env_spec=maze_spec(CORRIDOR))
    found = load("test/corridor-v0", top_episodes=0.3, maze_drop="after_success")
    assert found.transitions.size == 5 + 3 + 1
    assert found.record["choices"]["top_episodes"] == {
        "share": 0.3,
        "episodes": 3,
        "lowest_return": 1,
        "ties": 3,
    }
    assert "3 of them have the same as some left out" in found.record["notes"][-1]


def test_the_best_episodes_of_a_maze_are_those_of_the_relabelled_rewards():
    """Episode 0 passes the evaluation goal once; episode 1, the better as stored, never does."""
    x = np.array([[-0.5, 0.0, 0.5], [-0.5, -0.5, -0.5]])
    episodes = []
    for e in range(2):
        position = np.stack([x[e], 0 * x[e]], axis=1)
        observations = {
            "observation": np.concatenate([position, code(1, e, 3, 2)], axis=1),
            "achieved_goal": position,
            "desired_goal": np.tile([-0.5, 0.0], (3, 1)),
        }
        episodes.append(episode_buffer(e, 2, observations, rewards=[e, e]))
    space = gym.spaces.Dict(observation=box(4), achieved_goal=box(2), desired_goal=box(2))
    write_dataset("test/corridor-v0", episodes, space, env_spec=maze_spec(CORRIDOR))
    relabelled = load("test/corridor-v0", top_episodes=0.5)
    np.testing.assert_array_equal(relabelled.transitions.observations[:, 0], [-0.5, 0])
    assert relabelled.record["choices"]["transitions_at_goal"] == 1
    stored = load("test/corridor-v0", top_episodes=0.5, maze_goal="stored")
    np.testing.assert_array_equal(stored.transitions.observations[:, 0], [-0.5, -0.5])


@pytest.mark.parametrize(
    ("walls", "maze", "goal", "note"),
    [
        ("data", CORRIDOR, 0.5, "40.0 % of the data's positions lie in walls of the evaluation"),
        ("evaluation", WALLED, 1.5, "40 % of the data's positions lie in walls of the evaluation"),
    ],
)
def test_the_walls_of_the_evaluation_are_a_choice(corridor, walls, maze, goal, note):
    change_metadata(corridor, eval_env_spec=maze_spec(WALLED))
    found = load("test/corridor-v0", maze_walls=walls)
    assert found.record["choices"]["maze_walls"] == walls
    assert found.record["choices"]["maze_map"] == maze
    assert found.record["choices"]["positions_in_walls"] == (0 if walls == "data" else 0.4)
    assert found.recipe.maze.goal == (goal, 0.0)
    assert found.record["notes"][0].startswith(note)
    # Two positions of five lie in the wall; the corridor's goal is reached, the other never.
    assert found.transitions.rewards.sum() == (walls == "data")


def test_a_twin_is_on_record(monkeypatch):
    def no_network(dataset_id, root):
        raise DownloadFailed("no network")

    monkeypatch.setattr(resolve, "download", no_network)
    monkeypatch.setattr(
        catalog, "make", lambda name, progress: write_dataset(name, coded_episodes(), box(4))
    )
    record = load("D4RL/pointmaze/umaze-v2").record
    assert record["id"] == "iql/pointmaze/umaze-v0"
    assert record["requested_id"] == "D4RL/pointmaze/umaze-v2"
    assert record["source"] == "embedded"
    assert "stands in for D4RL/pointmaze/umaze-v2" in record["notes"][0]


@pytest.fixture
def embedded():
    """A small dataset under an embedded one's id, and how a maker would describe it."""
    collection = {"seed": 0, "controller": packaged_controller_digest(), "versions": {}}
    return collection, write_dataset(
        "iql/antmaze/umaze-v0", coded_episodes(), box(4), env_spec=spec_json()
    )


@pytest.mark.parametrize(
    ("change", "notes"),
    [
        ({}, []),
        ({"seed": 3}, ["made with the seed 3 instead of 0"]),
        ({"controller": "0123"}, ["made with the ant controller 0123; the packaged one is now"]),
    ],
)
def test_how_an_embedded_dataset_was_made_is_on_record(embedded, change, notes):
    collection, folder = embedded
    collection |= change
    change_metadata(folder, collection=collection)
    record = load("iql/antmaze/umaze-v0").record
    assert record["collection"] == collection
    size, *more = record["notes"]
    assert size == "made with 9 transitions instead of 1,000,000"
    assert len(more) == len(notes)
    for found, expected in zip(more, notes, strict=True):
        assert found.startswith(expected)


# Scores.


def test_scores():
    rule = ScoreRule("normalized", 10.0, 30.0)
    assert rule.score([10, 20], None) == 25
    assert rule.score([40], [True]) == 150
    assert ScoreRule("success").score([0, 0, 0, 9], [True, False, False, False]) == 25
    assert ScoreRule("success").score([1.0], None) is None
    assert ScoreRule("none").score([1.0], [True]) is None
    with pytest.raises(UserError, match="reference scores must rise"):
        normalized_score(1, 2, 2)


def test_score_rules():
    references = {"ref_min_score": 1.0, "ref_max_score": 3.0}
    assert score_rule("any/thing-v0", references, False) == ScoreRule("normalized", 1.0, 3.0)
    assert score_rule("any/thing-v0", references, True) == ScoreRule("success")
    assert score_rule("any/thing-v0", {}, False) == ScoreRule("none")
    assert score_rule("any/thing-v0", {"ref_min_score": 1.0}, False) == ScoreRule("none")
    equal = {"ref_min_score": 1.0, "ref_max_score": 1.0}
    assert score_rule("any/thing-v0", equal, False) == ScoreRule("none")
    door = ScoreRule("normalized", *D4RL_REFERENCES["door"])
    assert score_rule("D4RL/door/human-v2", {}, False) == door
    assert score_rule("D4RL/door/human-v2", references, False).ref_min == 1.0
    # New data from other versions of the environments: D4RL's constants are not theirs.
    assert score_rule("mujoco/hopper/medium-v0", {}, False) == ScoreRule("none")


def test_references_that_do_not_rise_are_noted(folder):
    change_metadata(folder, ref_min_score=3.0, ref_max_score=3.0)
    found = load()
    assert found.score_rule.kind == "none"
    assert found.record["notes"] == [
        "no score: the reference scores do not rise, from 3.0 (random) to 3.0"
    ]


def test_d4rls_references():
    assert all(high > low for low, high in D4RL_REFERENCES.values())
    # Half way between hopper's references, -20.272305 and 3234.3.
    assert normalized_score(1607.0138475, *D4RL_REFERENCES["hopper"]) == pytest.approx(50)


def test_pens_references_are_for_another_time_limit(folder):
    spec = spec_json("gymnasium_robotics.envs.adroit_hand:Pen", "AdroitHandPen-v1", 200)
    change_metadata(folder, env_spec=spec, ref_min_score=96.0, ref_max_score=3076.0)
    assert "are for 100 steps" in load().record["notes"][0]


@pytest.mark.parametrize(("version", "said"), [(1, True), (2, False)])
def test_the_first_version_of_adroits_door_rewards_the_palms_distance(folder, version, said):
    entry_point = "gymnasium_robotics.envs.adroit_hand.adroit_door:AdroitHandDoorEnv"
    spec = spec_json(entry_point, f"AdroitHandDoor-v{version}", 200)
    change_metadata(folder, env_spec=spec, ref_min_score=-56.5, ref_max_score=2880.6)
    assert any("where D4RL punishes it" in note for note in load().record["notes"]) == said
