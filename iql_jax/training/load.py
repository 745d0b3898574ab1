"""Loads a run's newest networks, and the data that they learned from."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from iql_jax.algorithm import IQLState
from iql_jax.data.load import Dataset
from iql_jax.generation.provide import provide
from iql_jax.outputs.folder import check_same_data, read_record
from iql_jax.training.config import Config, from_record
from iql_jax.training.run import dataset_record, load_data, load_state


class Trained(NamedTuple):
    """A run at its newest checkpoint."""

    config: Config
    dataset: Dataset  # That it learned from.
    state: IQLState
    step: int


def load_run(folder: Path | str, **changes: Any) -> Trained:
    """Load a run, which may still be training.

    ``changes`` are settings in place of the run's, such as ``trust_environment``; none that makes
    other data or networks.
    """
    folder = Path(folder)
    record = read_record(folder)
    # Only the command that runs now may trust an environment: a run folder may be a stranger's.
    changes = {"trust_environment": False, **changes}
    config = dataclasses.replace(from_record(record["config"]), **changes)
    provided = provide(
        config.dataset, progress=config.progress, started_with=record["dataset"]["id"]
    )
    dataset = load_data(config, provided)
    check_same_data(folder, record, dataset_record(dataset, provided))
    return Trained(config, dataset, *load_state(folder, config, dataset))
