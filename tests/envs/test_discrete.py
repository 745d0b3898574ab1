"""Discrete actions from the dataset to the environment, in the discrete u-maze; exact solutions."""

import types

import numpy as np
import pytest

from iql_jax.data import checks
from iql_jax.data.actions import one_hot
from iql_jax.data.metadata import DiscreteActions
from iql_jax.envs import discrete_umaze as umaze
from iql_jax.envs.finite_mdp import FiniteMDP, greedy
from iql_jax.generation.discrete_umaze import collect, policies, reference_scores
from iql_jax.generation.generate import generate
from iql_jax.outputs.logs import read_table
from iql_jax.training.config import Config, FinetuneConfig
from iql_jax.training.finetune import train_finetune
from iql_jax.training.offline import train_offline
from iql_jax.training.run import load_source
from iql_jax.utils.errors import UserError

ID = "iql/discrete-umaze-v0"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of datasets and of their cache that the tests here share."""
    root = tmp_path_factory.mktemp("umaze")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root / "datasets"))
        patch.setenv("IQL_JAX_CACHE", str(root / "cache"))
        yield root


def config(kind=Config, **settings):
    common = {"dataset": ID, "hidden_dims": (8,), "progress": False, "max_steps": 20}
    return kind(**{**common, **settings})


# Exact solutions.


def corridor():
    """Left or right in 0, 1, 2; state 3, on the right, ends and pays 1."""
    transitions = np.zeros((4, 2, 4))
    for state in range(4):
        transitions[state, 0, max(state - 1, 0)] = 1
        transitions[state, 1, min(state + 1, 3)] = 1
    at_end = np.arange(4) == 3
    return FiniteMDP(transitions, at_end.astype(float), at_end)


def test_values_of_a_corridor_by_hand():
    q_values = corridor().optimal_q(0.5)
    np.testing.assert_allclose(q_values[:3], [[0.125, 0.25], [0.125, 0.5], [0.25, 1.0]], atol=1e-10)
    best = greedy(q_values)
    np.testing.assert_allclose(corridor().policy_q(best, 0.5)[:3], q_values[:3], atol=1e-10)
    # At random: V2 = (1 + V1 / 2) / 2, V1 = (V2 + V0) / 4, V0 = (V0 + V1) / 4.
    random_q = corridor().policy_q(np.full((4, 2), 0.5), 0.5)
    np.testing.assert_allclose(random_q[:3].mean(axis=1), np.array([2, 6, 22]) / 41, atol=1e-10)


def test_chances_of_a_corridor_by_hand():
    uniform = np.full((4, 2), 0.5)
    assert corridor().success_probability(uniform, start=2, steps=1) == 0.5
    assert corridor().success_probability(uniform, start=2, steps=3) == 0.5 + 0.5**3
    assert corridor().success_probability(uniform, start=0, steps=2) == 0.0


# The maze.


def test_a_quarter_of_the_actions_is_random():
    model = umaze.model()
    np.testing.assert_allclose(model.transitions.sum(axis=2), 1.0)
    # To the right of the start, of four directions: up and left are walls.
    arrivals = model.transitions[umaze.START, 1]
    assert arrivals[umaze.START + 1] == pytest.approx(0.75 + 0.0625)
    assert arrivals[umaze.START] == pytest.approx(2 * 0.0625)
    assert model.rewards[umaze.GOAL] == 10
    assert model.rewards.sum() == 10


def test_the_environment_is_its_model():
    env = umaze.DiscreteUMaze()
    _, _ = env.reset(seed=0)
    counts = np.zeros(len(umaze.STATES))
    for _ in range(2_000):
        env._state = umaze.START
        counts[int(env.step(np.int64(2))[0].argmax())] += 1
    expected = umaze.model().transitions[umaze.START, 2]
    np.testing.assert_allclose(counts / 2_000, expected, atol=0.03)
    env._state = umaze.GOAL + 1
    while True:
        observation, reward, terminated, truncated, info = env.step(np.int64(3))
        if terminated:
            break
        assert (reward, truncated, info["success"]) == (0.0, False, False)
    assert (reward, info["success"], observation.argmax()) == (10.0, True, umaze.GOAL)


def test_the_data_are_one_optimal_and_99_random_trajectories():
    episodes = collect(3, lambda: None)
    assert len(episodes) == 100
    best, _ = policies()
    first = episodes[0]
    states = first.observations.argmax(axis=1)
    np.testing.assert_array_equal(first.actions, best[states[:-1]].argmax(axis=1))
    assert first.terminations[-1]
    random_actions = np.concatenate([episode.actions for episode in episodes[1:]])
    np.testing.assert_allclose(np.bincount(random_actions) / len(random_actions), 0.25, atol=0.03)
    for episode in episodes:
        assert len(episode.rewards) <= umaze.TIME_LIMIT
        assert episode.terminations[-1] == (episode.rewards[-1] == 10)
        assert episode.terminations[-1] != episode.truncations[-1]
    again = collect(3, lambda: None)
    np.testing.assert_array_equal(again[50].observations, episodes[50].observations)
    scores = reference_scores()
    assert scores["ref_max_score"] > 9.9
    assert scores["ref_min_score"] < 1


# The way of the actions.


def test_the_dataset_loads_as_one_hot_actions(folders):
    dataset = load_source(config(objective="sarsa"))
    transitions = dataset.transitions
    assert dataset.discrete_actions
    assert dataset.environment.discrete_start == 0
    assert dataset.record["choices"]["discrete"] == {"n": 4, "start": 0}
    assert dataset.record["notes"] == []
    assert transitions.actions.shape[1] == 4
    np.testing.assert_array_equal(transitions.actions.sum(axis=1), 1)
    same = transitions.next_action_masks[:-1] == 1
    np.testing.assert_array_equal(
        transitions.next_actions[:-1][same], transitions.actions[1:][same]
    )
    np.testing.assert_array_equal(
        transitions.next_observations[:-1][same], transitions.observations[1:][same]
    )
    assert (transitions.next_action_masks == 0).sum() == 100
    assert load_source(config()).transitions.next_actions is None


def test_its_size_is_its_own(folders):
    with pytest.raises(UserError, match="a size of its own; leave out"):
        generate(ID, steps=100)


@pytest.mark.parametrize(
    "settings", [{}, {"objective": "expectile_sarsa", "actor_loss": "ddpgbc"}], ids=["iql", "other"]
)
def test_a_run_evaluates_with_integers(folders, tmp_path, settings):
    settings = {"eval_interval": 10, "eval_episodes": 2, "eval_envs": 2, **settings}
    summary = train_offline(config(**settings), tmp_path / "run")
    rows = read_table(tmp_path / "run" / "evaluations.csv")
    assert [row["update"] for row in rows] == [10, 20]
    assert all(row["success_rate"] in (0, 0.5, 1) for row in rows)
    assert summary["updates"] == 20


def test_fine_tuning_acts_with_integers(folders, tmp_path):
    settings = config(
        FinetuneConfig,
        num_pretraining_steps=5,
        max_steps=6,
        eval_episodes=0,
        replay_buffer_size=20_000,
        log_interval=1,
    )
    train_finetune(settings, tmp_path / "run")
    with np.load(next((tmp_path / "run" / "transitions").glob("*.npz"))) as made:
        np.testing.assert_array_equal(made["actions"].sum(axis=1), 1)
        assert set(np.unique(made["actions"])) == {0.0, 1.0}


def test_the_check_counts_choices():
    metadata = {"dataset_id": "a/b-v0", "action_space": '{"type": "Discrete", "n": 3, "start": 1}'}
    episodes = types.SimpleNamespace(actions=np.float32([[1], [3], [3]]))
    finding = checks.check_actions(episodes, metadata)
    assert (finding.level, finding.text) == ("ok", "integers from 1 to 3; 1: 1, 3: 2")
    episodes.actions[0] = 0
    finding = checks.check_actions(episodes, metadata)
    assert finding.level == "defect"
    assert finding.text.startswith("some lie outside the integers from 1 to 3; there are 0: 1")


def test_an_action_outside_its_space():
    space = DiscreteActions(n=3, start=1)
    encoded = one_hot(np.float32([[1], [3]]), space, "a/b-v0")
    np.testing.assert_array_equal(encoded, [[1, 0, 0], [0, 0, 1]])
    with pytest.raises(UserError, match=r"action 4, but its .* integers from 1 to 3"):
        one_hot(np.float32([[1], [4]]), space, "a/b-v0")
