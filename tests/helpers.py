"""Small states and batches for tests of the learner."""

from typing import Any

import jax
import numpy as np

from iql_jax.algorithm import AgentConfig, IQLState, Transitions, create_state, update

OBSERVATION_DIM, ACTION_DIM, BATCH = 5, 2, 16


def make_state(seed: int = 0, *, discrete_actions: bool = False, **settings: Any) -> IQLState:
    """A small state whose critics, target critics and V all differ from one another."""
    config = AgentConfig(**{"hidden_dims": (16, 16), **settings})
    state, other = (
        create_state(key, OBSERVATION_DIM, ACTION_DIM, config, discrete_actions=discrete_actions)
        for key in (jax.random.key(seed), jax.random.key(seed + 1))
    )
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


# One program for all tests of states with the same structure, which compiles quickly.
QUICKLY = {"xla_backend_optimization_level": 0}
compiled_update = jax.jit(update, compiler_options=QUICKLY)


def assert_close(actual: Any, expected: Any, atol: float = 0.0) -> None:
    """Two pytrees agree leaf by leaf: to the bit, unless ``atol`` says otherwise."""
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_allclose(x, y, rtol=0.0, atol=atol)
