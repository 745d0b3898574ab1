"""A run's networks and the data that they learned from."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from iql_jax.config import Config, from_record
from iql_jax.data.load import Dataset, load_dataset
from iql_jax.run import load_state
from iql_jax.run_folder import check_same_data, read_record
from iql_jax.state import IQLState


class Trained(NamedTuple):
    """What is at a run's newest checkpoint.

    Attributes:
        config: The run's settings; without its progress bar.
        dataset: What it learned from.
        state: Its networks.
        step: Its step there.
    """

    config: Config
    dataset: Dataset
    state: IQLState
    step: int


def load(folder: Path) -> Trained:
    """Load a run.

    Raises:
        UserError: If the folder holds no run with a checkpoint, or its data are gone or others.
    """
    record = read_record(folder)
    config = dataclasses.replace(from_record(record["config"]), progress=False)
    dataset = load_dataset(config, record["dataset"]["id"])
    check_same_data(folder, record, dataset.record)
    return Trained(config, dataset, *load_state(folder, config, dataset))
