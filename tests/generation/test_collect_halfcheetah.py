"""The maker of HalfCheetah's gaits."""

import minari
import numpy as np
import pytest

from iql_jax.generation import catalog, halfcheetah
from iql_jax.generation.plan import ScoreRun
from iql_jax.generation.reproducibility import COLLECTING, randomness
from iql_jax.training.config import Config
from iql_jax.training.run import load_source

ID = "iql/halfcheetah/gaits-v0"


pytestmark = pytest.mark.usefixtures("data_folders")


def test_a_gait_is_a_sine_for_each_joint():
    gait = halfcheetah.Gait(
        frequency=5.0,  # A quarter of a period a step.
        amplitudes=np.array([1.0, 2.0]),
        phases=np.array([0.0, np.pi / 2]),
        offsets=np.array([0.5, 0.0]),
    )
    expected = [[0.5, 2.0], [1.5, 0.0], [0.5, -2.0], [-0.5, 0.0], [0.5, 2.0]]
    np.testing.assert_allclose(gait.actions(5), expected, atol=1e-12)


def test_gaits_are_drawn_around_the_best():
    best = halfcheetah.BEST_GAIT
    gaits = [halfcheetah.draw_gait(np.random.default_rng(seed)) for seed in range(200)]
    strengths = np.array([gait.amplitudes / best.amplitudes for gait in gaits])
    np.testing.assert_allclose(strengths, strengths[:, :1] * np.ones(6))  # One for all joints.
    assert 0.5 < strengths.min() < 0.55 < 1.05 < strengths.max() < 1.1
    frequencies = np.array([gait.frequency for gait in gaits]) / best.frequency
    assert 0.9 < frequencies.min() < 0.91 < 1.09 < frequencies.max() < 1.1
    shifts = np.array([gait.phases - best.phases for gait in gaits])
    assert shifts.std() == pytest.approx(halfcheetah.PHASE_NOISE, rel=0.1)


def test_shards_are_whole_episodes_and_the_rest():
    shards = halfcheetah.plan_shards(21_400, seed=0)
    assert [shard.first_episode for shard in shards] == [0, 10, 20]
    assert [shard.transitions for shard in shards] == [10_000, 10_000, 1_400]
    assert shards[-1].lengths == (1000, 400)
    assert [shard.lengths for shard in halfcheetah.plan_shards(7, seed=0)] == [(7,)]


def test_the_dataset_is_what_the_environment_did():
    catalog.make(ID, steps=1_200, seed=3, progress=False, score_episodes=1)
    dataset = minari.load_dataset(ID)
    first, second = dataset
    assert (len(first), len(second)) == (1000, 200)
    env = halfcheetah.build_environment()
    for number, episode in enumerate((first, second)):
        assert episode.observations.shape == (len(episode) + 1, 17)
        assert np.flatnonzero(episode.truncations).tolist() == [len(episode) - 1]
        assert not episode.terminations.any()
        # Its own seed and gait, whatever the shard; the recorded actions lead to the rest.
        reset_seed, generator = randomness(3, COLLECTING, number)
        gait = halfcheetah.draw_gait(generator).actions(len(episode))
        inside = np.abs(episode.actions) < 1
        noise = (episode.actions - gait)[inside & (np.abs(gait) < 0.7)]
        assert noise.std() == pytest.approx(halfcheetah.ACTION_NOISE, rel=0.1)
        observation = env.reset(seed=reset_seed)[0]
        for t in range(20):
            np.testing.assert_array_equal(observation, episode.observations[t])
            observation, reward, *_ = env.step(episode.actions[t])
            assert reward == episode.rewards[t]
    metadata = dataset.storage.metadata
    assert metadata["ref_min_score"] < 0
    assert dataset.env_spec.max_episode_steps == 1000


def test_rewards_are_scaled_by_the_range_of_the_returns():
    catalog.make(ID, steps=3_000, progress=False, score_episodes=1)
    returns = [episode.rewards.sum() for episode in minari.load_dataset(ID)]
    settings = {"dataset": ID, "progress": False, "reward_transform": "return_range"}
    loaded = load_source(Config(**settings))
    assert max(returns) - min(returns) > 500  # Gaits differ.
    np.testing.assert_allclose(
        np.ptp(loaded.transitions.rewards.reshape(3, 1000).sum(axis=1)), 1000, rtol=1e-4
    )
    assert loaded.score_rule.kind == "normalized"
    assert loaded.environment is not None


def test_the_best_gait_runs_and_random_actions_do_not():
    best, random = (
        halfcheetah.score_run(ScoreRun("gaits", 0, 0, 5, planned)).values
        for planned in (True, False)
    )
    assert np.median(best) > 3_500  # It falls now and then.
    assert random.max() < 0


def test_an_episodes_content_depends_on_its_number_and_the_seed_alone():
    together = halfcheetah.collect_shard(halfcheetah.Shard(0, 4, (40, 30)))
    alone = halfcheetah.collect_shard(halfcheetah.Shard(0, 5, (30,)))
    first, second = halfcheetah.cut_episodes(together)
    (same,) = halfcheetah.cut_episodes(alone)
    np.testing.assert_array_equal(second.observations, same.observations)
    np.testing.assert_array_equal(second.actions, same.actions)
    np.testing.assert_array_equal(second.rewards, same.rewards)
    assert not np.array_equal(first.actions[:30], second.actions)
    other = halfcheetah.collect_shard(halfcheetah.Shard(1, 5, (30,)))
    assert not np.array_equal(other.actions, alone.actions)
