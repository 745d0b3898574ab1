"""Loads a run at its newest checkpoint: whole, without its data, or as a policy that acts."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from iql_jax.algorithm import IQLState
from iql_jax.data.load import Dataset
from iql_jax.data.scores import ScoreRule
from iql_jax.envs.description import Layout, from_json
from iql_jax.envs.policy import TrainedPolicy
from iql_jax.generation.provide import provide
from iql_jax.outputs.folder import check_same_data, read_record
from iql_jax.training.config import Config, from_record
from iql_jax.training.evaluation import numpy_policy
from iql_jax.training.run import IN_MEMORY, dataset_record, load_data, load_state
from iql_jax.utils.errors import UserError, one_line


class Trained(NamedTuple):
    """A run at its newest checkpoint."""

    config: Config
    dataset: Dataset  # That it learned from.
    state: IQLState
    step: int


class Networks(NamedTuple):
    """A run at its newest checkpoint, without its data."""

    config: Config
    layout: Layout  # An ``EnvironmentDescription`` if it had an evaluation environment.
    score_rule: ScoreRule
    state: IQLState
    step: int


def load_run(folder: Path | str, **changes: Any) -> Trained:
    """Loads a run, which may still be training.

    ``changes`` are settings in place of the run's, such as ``trust_environment``; none that makes
    other data or networks.
    """
    folder = Path(folder)
    record = read_record(folder)
    config = _config(record, changes)
    if record["dataset"].get("origin") == IN_MEMORY.origin:
        raise UserError(f"{folder} was trained on arrays in memory, which are not in its folder")
    provided = provide(
        config.dataset, progress=config.progress, started_with=record["dataset"]["id"]
    )
    dataset = load_data(config, provided)
    check_same_data(folder, record, dataset_record(dataset, provided))
    return Trained(config, dataset, *load_state(folder, config, dataset.layout))


def load_networks(folder: Path | str, **changes: Any) -> Networks:
    """Loads what acting and evaluating need, all of which the run's folder holds.

    ``changes`` are settings in place of the run's, as for ``load_run``.
    """
    folder = Path(folder)
    record = read_record(folder)
    config = _config(record, changes)
    try:
        layout = from_json(record["dataset"]["layout"], trusted=config.trust_environment)
        rule = ScoreRule(**record["dataset"]["choices"]["score"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / 'config.json'} does not say how the policy observes and acts "
            f"({one_line(error)})"
        ) from error
    return Networks(config, layout, rule, *load_state(folder, config, layout))


def load_policy(folder: Path | str) -> TrainedPolicy:
    """Loads a run's policy: it acts in NumPy, and needs neither the dataset nor an environment."""
    networks = load_networks(folder)
    return TrainedPolicy(numpy_policy(networks.state.actor), networks.layout)


def _config(record: dict[str, Any], changes: dict[str, Any]) -> Config:
    # Only the command that runs now may trust an environment: a run folder may be a stranger's.
    # And not every device has the precision in which a run trained.
    own = {"trust_environment": False, "matmul_precision": "float32"}
    return dataclasses.replace(from_record(record["config"]), **{**own, **changes})
