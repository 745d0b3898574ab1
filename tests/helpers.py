"""Small states and batches for tests of the learner."""

import jax
import numpy as np

from iql_jax.algorithm.learner import IQLState, create_state
from iql_jax.algorithm.types import Transitions

OBSERVATION_DIM, ACTION_DIM, BATCH = 5, 2, 16


def make_state(seed: int = 0, **hyperparameters: float) -> IQLState:
    """A small state whose critics, target critics and V all differ from one another."""
    settings = {"hidden_dims": (16, 16), **hyperparameters}
    state = create_state(jax.random.key(seed), OBSERVATION_DIM, ACTION_DIM, **settings)
    other = create_state(jax.random.key(seed + 1), OBSERVATION_DIM, ACTION_DIM, **settings)
    return state.replace(target_critic_params=other.critic.params)


def make_transitions(size: int = BATCH, seed: int = 0) -> Transitions:
    """Random transitions, a quarter of them terminations."""
    rng = np.random.default_rng(seed)
    return Transitions(
        observations=rng.normal(size=(size, OBSERVATION_DIM)).astype(np.float32),
        actions=rng.uniform(-1, 1, (size, ACTION_DIM)).astype(np.float32),
        rewards=rng.normal(size=size).astype(np.float32),
        masks=(rng.uniform(size=size) > 0.25).astype(np.float32),
        next_observations=rng.normal(size=(size, OBSERVATION_DIM)).astype(np.float32),
    )
