"""Small runs on PointMaze: their settings, their data, and comparisons of what they leave."""

import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from minari_datasets import change_metadata
from tables import untimed_rows

from iql_jax.generation.generate import generate
from iql_jax.outputs import logs
from iql_jax.outputs.checkpoints import Checkpoints
from iql_jax.outputs.logs import read_table
from iql_jax.outputs.transitions import FIELDS
from iql_jax.training.config import FinetuneConfig, from_mapping
from iql_jax.training.finetune import train_finetune
from iql_jax.training.load import load_run
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
    "max_steps": 60,
    "log_interval": 20,
    "eval_interval": 40,
    "eval_episodes": 2,
    "eval_processes": 1,
    "checkpoint_interval": 60,
    "progress": False,
}
# The replay buffer's ring goes round: 120 steps into 600 + 60 rows.
FINETUNE = {**OFFLINE, "num_pretraining_steps": 60, "max_steps": 120, "replay_buffer_size": 660}
BOUNDARY, END = 60, 180


def offline_config(**changes):
    return from_mapping({**OFFLINE, **changes})


def finetune_config(**changes):
    return from_mapping({**FINETUNE, **changes}, FinetuneConfig)


@pytest.fixture(scope="module")
def pointmaze(tmp_path_factory):
    """A folder of datasets with a small PointMaze whose episodes are short."""
    root = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        generate(DATASET, steps=TRANSITIONS, seed=0, progress=False)
        content = json.loads((root / DATASET / "data" / "metadata.json").read_text())
        spec = json.loads(content["eval_env_spec"]) | {"max_episode_steps": TIME_LIMIT}
        change_metadata(root / DATASET, eval_env_spec=json.dumps(spec))
        yield root


def saved(folder):
    """The newest checkpoint of a run: state and progress."""
    template = load_run(folder).state
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore_newest(template)


def arrays(tree):
    """The leaves of a state as NumPy arrays, keys included."""
    return [
        np.asarray(
            jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        )
        for x in map(jax.numpy.asarray, jax.tree.leaves(tree))
    ]


def assert_same_state(first, second):
    for ours, theirs in zip(arrays(first), arrays(second), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def transitions(folder):
    """What the environments of a fine-tuning run made, field by field."""
    files = [np.load(path) for path in sorted((folder / "transitions").glob("*.npz"))]
    return {name: np.concatenate([file[name] for file in files]) for name in FIELDS if files}


def assert_same_run(folder, expected):
    """Two runs ended with the same bits and transitions, and the same tables but for times."""
    assert_same_state(saved(folder)[0], saved(expected)[0])
    assert_same_state(transitions(folder), transitions(expected))
    for table in ("metrics.csv", "evaluations.csv", "episodes.csv"):
        if (expected / table).exists():
            assert untimed_rows(folder / table) == untimed_rows(expected / table)


def steps(folder, table):
    return [int(row["step"]) for row in read_table(folder / f"{table}.csv")]


class Crash(Exception):
    """Stands for a kill: nothing in a run catches it, and nothing is saved on its way."""


def stop_at(monkeypatch, table, step, signum):
    """Stop the next run just after it has logged a row: by a signal, or as if killed."""
    write = logs.RunLog.write

    def stopping(self, to, at, values):
        write(self, to, at, values)
        if (to, at) == (table, step):
            monkeypatch.setattr(logs.RunLog, "write", write)
            if signum == signal.SIGKILL:
                raise Crash
            os.kill(os.getpid(), signum)

    monkeypatch.setattr(logs.RunLog, "write", stopping)


def stop(monkeypatch, folder, table, step, signum, **changes):
    """Start, or resume, a fine-tuning run that is stopped there."""
    stop_at(monkeypatch, table, step, signum)
    with pytest.raises(Crash if signum == signal.SIGKILL else Interrupted):
        train_finetune(finetune_config(**changes), folder)
