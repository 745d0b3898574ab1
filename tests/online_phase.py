"""The online phase on environments of which every number is known: settings and comparisons."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_environments import ACTION_DIM, OBSERVATION_DIM, Diary, dataset_of

from iql_jax.algorithm import AgentConfig, create_state
from iql_jax.envs import rollout as interaction
from iql_jax.training import compilation
from iql_jax.training.config import FinetuneConfig
from iql_jax.training.online import Online
from iql_jax.utils.signals import StopRequest

FIRST_STEP = 500  # Of the phase in the run.
RATES = {"actor_lr": 0.01, "value_lr": 0.01, "critic_lr": 0.01}  # Every update shows.
# Few different shapes, for each of them is compiled anew.
CAPACITY = 20
SMALL = {"hidden_dims": (8,), "batch_size": 8, "replay_buffer_size": CAPACITY, **RATES}


@pytest.fixture
def one_process_and_few_programs(monkeypatch):
    monkeypatch.setattr(interaction, "available_cores", lambda: 1)
    # Without options, the programs of the tests that call ``learn`` themselves are the phase's.
    monkeypatch.setattr(compilation, "COMPILER_OPTIONS", {})


@pytest.fixture
def begin(monkeypatch, tmp_path, one_process_and_few_programs):
    """Begin the phase of a run with some settings; gives the phase and the first state."""
    opened = []

    def begin(make=lambda recipe: Diary(), saved=None, folder=tmp_path, dataset=None, **settings):
        config = FinetuneConfig(
            **{"dataset": "test/diary-v0", "max_steps": 400, **SMALL, **settings}
        )
        dataset = dataset_of(monkeypatch, make, **(dataset or {}))
        begun = Online(config, dataset, folder, FIRST_STEP)
        opened.append(begun)
        begun.restore(saved or {})
        state = fresh_state(config.seed)
        begun.phase().begin(state)
        return begun, state

    yield begin
    for begun in opened:
        begun.interaction.close()


def fresh_state(seed=42):
    return create_state(
        jax.random.key(seed),
        OBSERVATION_DIM,
        ACTION_DIM,
        AgentConfig(hidden_dims=SMALL["hidden_dims"], opt_decay_schedule="none", **RATES),
    )


def in_multiples_of(steps):
    """Intervals that go with a number of environments."""
    intervals = ("log_interval", "eval_interval", "checkpoint_interval")
    return {"max_steps": 40 * steps, **dict.fromkeys(intervals, steps)}


def advance(begun, state, steps, stop=None):
    return begun.phase().advance(state, steps, stop or StopRequest())


def kept(tree):
    """A copy on the host: what is given to a program that donates it is gone."""
    return jax.tree.map(
        lambda x: np.array(
            jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        ),
        tree,
    )


def assert_same_bits(first, second):
    jax.tree.map(np.testing.assert_array_equal, kept(first), kept(second))


def stored(begun):
    """The environment's transitions in the buffer, where none was overwritten."""
    buffer = begun._begun.buffer
    first, count = int(buffer.num_dataset), int(buffer.added)
    assert first + count <= buffer.capacity
    return jax.tree.map(lambda x: np.asarray(x)[first : first + count], buffer.transitions)
