"""Toy environments of which every number is known; worker processes import them, so no JAX."""

import os
import sys

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from iql_jax.data.load import Dataset
from iql_jax.data.rewards import RewardTransform
from iql_jax.data.scores import ScoreRule
from iql_jax.envs import rollout
from iql_jax.envs.description import EnvironmentDescription

OBSERVATION_DIM, ACTION_DIM = 4, 2
ENDINGS = ("terminated", "time limit", "both")
SEEDS = []  # Of the resets of environments in this process.


class Diary(gym.Env):
    """Says in each observation which episode this is, how far it is, and what was done last.

    The reset's seed decides everything: the episode's name, its length (1 to 6) and its ending.
    Observations are [name, steps so far, the last action]. A reward is the name / 8 + the steps.
    Episodes of even length report success, in their first step alone.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBSERVATION_DIM,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (ACTION_DIM,), np.float32)

    def __init__(self, reports_success=True, scale=1.0, render_mode=None):
        self._reports_success = reports_success
        self._scale = scale

    def reset(self, *, seed=None, options=None):
        SEEDS.append(seed)
        rng = np.random.default_rng(seed)
        self._name = int(rng.integers(1, 1000))
        self._length = int(rng.integers(1, 7))
        self._ending = ENDINGS[rng.integers(len(ENDINGS))]
        self._steps = 0
        return self._observation(np.zeros(ACTION_DIM)), {}

    def step(self, action):
        assert self._steps < self._length, "stepped after its end"
        self._steps += 1
        over = self._steps == self._length
        success = self._steps == 1 and self._length % 2 == 0
        return (
            self._observation(action),
            (self._name / 8 + self._steps) * self._scale,
            over and self._ending != "time limit",
            over and self._ending != "terminated",
            {"success": success} if self._reports_success else {},
        )

    def _observation(self, action):
        return np.array([self._name, self._steps, *action], np.float32)


class Faulty(Diary):
    """Goes wrong in a reset, or in the third step, of the episodes that a test says."""

    def __init__(self, fault, first_bad_episode=0):
        if fault == "building":
            raise OSError("no such\nrobot")
        super().__init__()
        self._fault = fault
        self._good_resets = first_bad_episode

    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        self._length, self._is_good = 4, self._good_resets > 0
        self._good_resets -= 1
        if not self._is_good and self._fault == "reset":
            raise OSError("no such\nmaze")
        if not self._is_good and self._fault == "first observation":
            observation = observation * np.nan
        return observation, info

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        if self._steps == 3 and not self._is_good:
            if self._fault == "step":
                raise RuntimeError("the hinge\n  broke")
            if self._fault == "death":
                os._exit(1)
            if self._fault == "observation":
                observation[1] = np.nan
            if self._fault == "shape":
                observation = observation[1:]
            if self._fault == "reward":
                reward = np.inf
        return observation, reward, terminated, truncated, info


class Witness(Diary):
    """Observes its process: its number, whether JAX is imported, and the threads BLAS may have."""

    def _observation(self, action):
        threads = os.environ.get("OPENBLAS_NUM_THREADS", 0)
        return np.array([os.getpid(), "jax" in sys.modules, threads, 0], np.float32)


def description(kind, **kwargs):
    """The description of an environment that processes can import."""
    spec = EnvSpec(
        id="Toy-v0", entry_point=f"{kind.__module__}:{kind.__name__}", max_episode_steps=100
    )
    return EnvironmentDescription(
        spec=spec.to_json(),
        kwargs=kwargs,
        trusted=True,
        observation_dim=OBSERVATION_DIM,
        action_dim=ACTION_DIM,
    )


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
        layout=description(Diary),
        reward_transform=reward_transform or RewardTransform(),
        score_rule=ScoreRule("success"),
        terminates=terminates,
    )
