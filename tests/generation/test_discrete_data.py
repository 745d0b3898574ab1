"""The dataset of the discrete u-maze."""

import numpy as np

from iql_jax.envs import discrete_umaze as umaze
from iql_jax.generation.discrete_umaze import collect, policies, reference_scores


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
    scores = reference_scores()
    assert scores["ref_max_score"] > 9.9
    assert scores["ref_min_score"] < 1
