"""Datasets that name toy environments."""

import numpy as np
from toy_environments import ACTION_DIM, OBSERVATION_DIM, SEEDS, Diary, Faulty, description

from iql_jax.data.load import Dataset
from iql_jax.data.rewards import RewardTransform
from iql_jax.data.scores import ScoreRule
from iql_jax.envs import rollout

__all__ = ["ACTION_DIM", "OBSERVATION_DIM", "SEEDS", "Diary", "Faulty", "dataset_of"]


def dataset_of(monkeypatch, make, size=5, terminates=True, reward_transform=None):
    """A dataset of random transitions that names the environment which ``make`` builds."""
    monkeypatch.setattr(rollout, "make_environment", make)
    rng = np.random.default_rng(0)
    return Dataset(
        transitions={
            "observations": rng.normal(size=(size, OBSERVATION_DIM)).astype(np.float32),
            "actions": rng.uniform(-1, 1, (size, ACTION_DIM)).astype(np.float32),
            "rewards": rng.normal(size=size).astype(np.float32),
            "masks": np.ones(size, np.float32),
            "next_observations": rng.normal(size=(size, OBSERVATION_DIM)).astype(np.float32),
        },
        record={"id": "test/diary-v0"},
        environment=description(Diary),
        reward_transform=reward_transform or RewardTransform(),
        score_rule=ScoreRule("success"),
        terminates=terminates,
    )
