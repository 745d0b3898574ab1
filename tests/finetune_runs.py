"""Small fine-tuning runs on a real environment: their settings, fixtures and comparisons."""

import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from minari_datasets import change_metadata
from tables import untimed_rows

from iql_jax.algorithm.types import Transitions
from iql_jax.envs import rollout as interaction
from iql_jax.generation.generate import generate
from iql_jax.outputs import logs as metrics
from iql_jax.outputs.checkpoints import Checkpoints
from iql_jax.outputs.logs import read_table
from iql_jax.outputs.transitions import TransitionLog
from iql_jax.training import report
from iql_jax.training.config import Config, FinetuneConfig, from_mapping
from iql_jax.training.finetune import train_finetune
from iql_jax.training.offline import train_offline
from iql_jax.training.online import Online
from iql_jax.training.run import initial_state, load_source
from iql_jax.utils.signals import Interrupted

ROOT = Path(__file__).parent.parent
DATASET = "iql/pointmaze/umaze-v0"
TRANSITIONS = 600
TIME_LIMIT = 25

OFFLINE = {
    "dataset": DATASET,
    "reward_transform": "minus_one",
    "hidden_dims": (8,),
    "batch_size": 8,
    "log_interval": 20,
    "eval_interval": 40,
    "eval_episodes": 2,
    "eval_envs": 1,
    "checkpoint_interval": 60,
    "progress": False,
}
# The ring goes round: 120 steps into 600 + 60 rows.
SETTINGS = {**OFFLINE, "num_pretraining_steps": 60, "max_steps": 120, "replay_buffer_size": 660}
BOUNDARY, END = 60, 180


def config_of(**changes):
    return from_mapping({**SETTINGS, **changes}, FinetuneConfig)


@pytest.fixture(scope="module")
def finetune_data(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        patch.setenv("IQL_JAX_CACHE", str(root / "cache"))
        patch.setattr(interaction, "available_cores", lambda: 1)
        folder = Path(generate(DATASET, steps=TRANSITIONS, seed=0, progress=False))
        content = json.loads((folder / "data" / "metadata.json").read_text())
        spec = json.loads(content["eval_env_spec"]) | {"max_episode_steps": TIME_LIMIT}
        change_metadata(folder, eval_env_spec=json.dumps(spec))
        yield


@pytest.fixture
def no_pictures(monkeypatch):
    """But for those of the run that is ``finished``."""
    monkeypatch.setattr(report, "draw", lambda *args: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, finetune_data):
    folder = tmp_path_factory.mktemp("finished")
    return folder, train_finetune(config_of(), folder)


@pytest.fixture(scope="module")
def offline(tmp_path_factory, finetune_data):
    """A finished offline run of the same settings."""
    folder = tmp_path_factory.mktemp("offline")
    settings = {**OFFLINE, "max_steps": BOUNDARY, "opt_decay_schedule": "none"}
    train_offline(from_mapping(settings), folder)
    return folder


@pytest.fixture
def phases(monkeypatch):
    """The online phases that runs of this test have begun."""
    begun = []
    begin = Online._begin

    def noted(self, state):
        begin(self, state)
        begun.append(self)

    monkeypatch.setattr(Online, "_begin", noted)
    return begun


def buffer_of(phase):
    buffer = phase._begun.buffer
    return jax.tree.map(lambda x: np.asarray(x)[: int(buffer.size)], buffer.transitions)


def rebuilt(phase, folder, capacity, keep_dataset=False):
    """What the buffer should hold by the dataset and the log, row by row."""
    data = phase._dataset
    log = TransitionLog(folder / "transitions")
    log.restore(phase.interaction.counters.env_steps)
    made = jax.tree.map(
        lambda *parts: np.concatenate(parts), *(Transitions(**made) for made in log.read())
    )
    made = made.replace(rewards=data.reward_transform(made.rewards))
    num_dataset = data.transitions.size
    first = num_dataset if keep_dataset else 0
    rows = [*range(num_dataset)]
    place = num_dataset
    for index in range(num_dataset, num_dataset + made.size):
        if place == capacity:
            place = first
        rows[place : place + 1] = [index]
        place += 1
    everything = jax.tree.map(lambda *parts: np.concatenate(parts), data.transitions, made)
    return jax.tree.map(lambda x: x[rows], everything)


def assert_same_rows(actual, expected):
    for name in vars(expected):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), name)


def saved(folder):
    """The newest checkpoint: state and progress."""
    settings = Config(dataset=DATASET, hidden_dims=(8,), opt_decay_schedule="none")
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore_newest(initial_state(settings, load_source(settings)))


def arrays(state):
    leaves = jax.tree.leaves(state)
    is_key = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return [
        np.asarray(jax.random.key_data(leaf) if key else leaf)
        for leaf, key in zip(leaves, is_key, strict=True)
    ]


def assert_same_state(first, second):
    for ours, theirs in zip(arrays(first), arrays(second), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def assert_same_run(folder, expected):
    assert_same_state(saved(folder)[0], saved(expected)[0])
    for table in ("metrics.csv", "evaluations.csv", "episodes.csv"):
        assert untimed_rows(folder / table) == untimed_rows(expected / table)


def steps(folder, table):
    return [int(row["step"]) for row in read_table(folder / f"{table}.csv")]


class Crash(Exception):
    """Stands for a kill: nothing in a run catches it, and nothing is saved on its way."""


def stop_at(monkeypatch, table, step, signum):
    """Stop the next run just after it has logged a row: by a signal, or as if killed."""
    write = metrics.RunLog.write

    def stopping(self, to, at, values):
        write(self, to, at, values)
        if (to, at) == (table, step):
            monkeypatch.setattr(metrics.RunLog, "write", write)
            if signum == signal.SIGKILL:
                raise Crash
            os.kill(os.getpid(), signum)

    monkeypatch.setattr(metrics.RunLog, "write", stopping)


def stop(monkeypatch, folder, table, step, signum, **changes):
    """Start, or go on with, a run that is stopped there."""
    stop_at(monkeypatch, table, step, signum)
    with pytest.raises(Crash if signum == signal.SIGKILL else Interrupted):
        train_finetune(config_of(**changes), folder)
