"""A run's newest networks, and the data that they learned from."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from iql_jax.algorithm.state import IQLState
from iql_jax.data.load import Dataset
from iql_jax.outputs.folder import check_same_data, read_record
from iql_jax.training.config import Config, from_record
from iql_jax.training.run import load_source, load_state


class Trained(NamedTuple):
    """What is at a run's newest checkpoint.

    Attributes:
        settings: The run's.
        dataset: What it learned from.
        state: Its networks.
        step: Its step there.
    """

    settings: Config
    dataset: Dataset
    state: IQLState
    step: int


def load_run(folder: Path, **changes: Any) -> Trained:
    """Load a run, which may still be training.

    Args:
        folder: The run's folder.
        changes: Settings to have in place of the run's, such as ``trust_environment``; none that
            makes other data or networks.

    Raises:
        UserError: If there is no run or no checkpoint yet; if its data are gone, or have changed.
    """
    record = read_record(folder)
    settings = dataclasses.replace(from_record(record["config"]), **changes)
    dataset = load_source(settings, record["dataset"]["id"])
    check_same_data(folder, record, dataset.record)
    return Trained(settings, dataset, *load_state(folder, settings, dataset))
