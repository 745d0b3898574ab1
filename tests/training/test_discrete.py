"""A run with discrete actions: in the environment and in evaluation."""

import numpy as np
from minari_datasets import write_cart_pole

from iql_jax.outputs.logs import read_table
from iql_jax.training.config import FinetuneConfig
from iql_jax.training.finetune import train_finetune


def test_environments_get_integers_and_data_one_hot_vectors(data_folders, tmp_path):
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
