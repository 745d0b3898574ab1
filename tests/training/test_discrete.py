"""A run with discrete actions: in the environment and in evaluation."""

import signal

import numpy as np
import pytest
from minari_datasets import write_cart_pole
from small_runs import assert_same_run, stop_at

from iql_jax.outputs.logs import read_table
from iql_jax.training.config import FinetuneConfig
from iql_jax.training.finetune import train_finetune
from iql_jax.utils.signals import Interrupted


def test_environments_get_integers_and_data_one_hot_vectors_also_resumed(
    data_folders, tmp_path, monkeypatch
):
    config = FinetuneConfig(
        dataset=write_cart_pole(),
        hidden_dims=(8,),
        num_pretraining_steps=0,
        max_steps=6,
        log_interval=1,
        eval_interval=5,
        eval_episodes=2,
        eval_processes=1,
        replay_buffer_size=20,
        progress=False,
    )
    train_finetune(config, tmp_path / "run")
    rows = read_table(tmp_path / "run" / "evaluations.csv")
    assert all(row["return_mean"] >= 8 for row in rows)  # No pole falls sooner.
    with np.load(next((tmp_path / "run" / "transitions").glob("*.npz"))) as made:
        np.testing.assert_array_equal(made["actions"].sum(axis=1), 1)
        assert set(np.unique(made["actions"])) == {0.0, 1.0}
    stop_at(monkeypatch, "metrics", 4, signal.SIGTERM)
    with pytest.raises(Interrupted):
        train_finetune(config, tmp_path / "stopped")
    train_finetune(config, tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "run")
