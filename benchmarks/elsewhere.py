"""A finished run's policy, evaluated in the evaluation maze of another dataset's metadata."""

import dataclasses
import json
from typing import Any

import numpy as np

import runs as bench
from iql_jax.data.load import Dataset, load_dataset
from iql_jax.outputs.folder import write_json
from iql_jax.training.evaluation import RunEvaluation, describe
from iql_jax.training.trained import load_run
from iql_jax.utils.signals import StopRequest

ELSEWHERE = "evaluation_elsewhere.json"
"""In the folder of the run."""


def evaluate_elsewhere(trained: bench.Run, dataset_id: str) -> None:
    """Evaluate a finished run's last policy in the evaluation maze of another dataset's metadata.

    Raises:
        UserError: if the run's data are no longer what they were.
        ValueError: if the choices made of them give other transitions.
    """
    summary = trained.summary()
    if summary is None or elsewhere(trained).get("update") == summary["updates"]:
        return
    settings, here, state, update = load_run(trained.folder, progress=False)
    there = load_dataset(dataclasses.replace(settings, dataset=dataset_id, maze_walls="evaluation"))
    check_same_transitions(here, there)
    episodes, num_envs = settings.eval_episodes, settings.eval_envs or 1
    with StopRequest() as stop, RunEvaluation(settings, there, episodes, num_envs) as evaluation:
        result = evaluation.episodes(state, update, episodes, stop)
    found = {
        "update": update,
        "dataset": there.record["id"],
        "positions_in_walls": there.record["choices"]["positions_in_walls"],
        **describe(result, there),
    }
    write_json(trained.folder / ELSEWHERE, found)


def check_same_transitions(here: Dataset, there: Dataset) -> None:
    """Refuse datasets from which training would differ."""
    for field in dataclasses.fields(here.transitions):
        first, second = (getattr(dataset.transitions, field.name) for dataset in (here, there))
        if not np.array_equal(first, second):
            raise ValueError(f"{field.name} of {there.record['id']} differ from those trained on")


def elsewhere(trained: bench.Run) -> dict[str, Any]:
    """What ``evaluate_elsewhere`` found; empty if it has not been asked."""
    path = trained.folder / ELSEWHERE
    return dict(json.loads(path.read_text())) if path.exists() else {}
