"""A fine-tuning run from config to summary: what ``train_finetune.py`` does."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from iql_jax.algorithm.learner import IQLState
from iql_jax.data.config import DATA_KEYS
from iql_jax.data.load import Dataset
from iql_jax.outputs.checkpoints import newest_step, read_newest
from iql_jax.outputs.folder import check_same_data, read_record, record_change
from iql_jax.outputs.logs import read_table
from iql_jax.training import report
from iql_jax.training.config import FinetuneConfig, defaults, from_record, kind_of
from iql_jax.training.loop import Loop
from iql_jax.training.online import Online
from iql_jax.training.phases import Progress
from iql_jax.training.run import Run, initial_state, load_state, offline_phase, open_run
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import StopRequest
from iql_jax.utils.streams import Stream, stream_seed

# Settings that decide what an agent is and what it was shown: a run that goes on from another's
# must share them.
_SHARED = ("hidden_dims", "layer_norm", *DATA_KEYS)


def train_finetune(config: FinetuneConfig, workdir: Path) -> dict[str, Any]:
    """Train offline, then online; on a folder with a part of this run, go on with it.

    Args:
        config: The settings.
        workdir: The run's folder; see the README for what it holds afterwards.

    Returns:
        The contents of ``summary.json``.

    Raises:
        UserError: On anything that the user can mend.
        Interrupted: After SIGINT or SIGTERM, with the state saved.
    """
    offline_run = Path(config.offline_run) if config.offline_run else None
    if offline_run is not None and newest_step(workdir / "checkpoints") is None:
        _check_offline_run(offline_run, config)  # Before the data are had: that may take minutes.
    with open_run(config, workdir, offline_run) as run:
        run = dataclasses.replace(run, dataset=_subset(run.dataset, config))
        state = initial_state(config, run.dataset)
        boundary = config.num_pretraining_steps
        if offline_run is not None:
            state, boundary = _first_state(run, config, offline_run, state)
        with Online(config, run.dataset, workdir, boundary) as online:
            if not (workdir / "summary.json").exists():
                record_change(workdir, config.to_dict())
            phases = [online.phase()]
            if offline_run is None and boundary > 0:
                phases.insert(0, offline_phase(run, boundary))

            def evaluate(state: IQLState, step: int, stop: StopRequest) -> dict[str, float | None]:
                assert run.evaluation is not None
                return online.add_regret(run.evaluation(state, step, stop))

            loop = Loop(
                config=config,
                folder=workdir,
                record=run.record,
                phases=phases,
                evaluate=None if run.evaluation is None else evaluate,
                template=state,
                started=run.started,
                extra=online,
                tables=("episodes",),
                unit="step",
                first_step=0 if offline_run is None else boundary,
            )
            state, progress = loop.run()
            evaluations = read_table(workdir / "evaluations.csv")
            counters = online.interaction.counters
            more = {
                "offline_score": next(
                    (row["score"] for row in evaluations if row["step"] == boundary), None
                ),
                "regret": evaluations[-1]["regret"] if evaluations else None,
                "env_steps": counters.env_steps,
                "episodes": counters.episodes_ended,
            }
            return report.finish(run, state, progress, more, boundary=boundary)


def _subset(dataset: Dataset, config: FinetuneConfig) -> Dataset:
    """The dataset with ``init_dataset_size`` transitions, drawn at random without replacement."""
    size = config.init_dataset_size
    if size == 0:
        return dataset
    if size > dataset.size:
        raise UserError(
            f"config.init_dataset_size is {size:,}, but {dataset.record['id']} has "
            f"{dataset.size:,} transitions; 0 uses all"
        )
    generator = np.random.default_rng(stream_seed(config.seed, Stream.SUBSET))
    rows = generator.permutation(dataset.size)[:size]
    transitions = {name: np.ascontiguousarray(x[rows]) for name, x in dataset.transitions.items()}
    return dataclasses.replace(dataset, transitions=transitions)


def _check_offline_run(folder: Path, config: FinetuneConfig) -> None:
    """Refuse what is no finished offline run of an agent like this run's.

    Raises:
        UserError: If it is of another kind, has other settings, or did not come to its end.
    """
    record = read_record(folder)
    if kind_of(record["config"]) is FinetuneConfig:
        raise UserError(
            f"config.offline_run {folder} is a fine-tuning run; name one of train_offline.py"
        )
    # A key that has come since that run was begun had what is its default now.
    theirs, ours = {**defaults(), **record["config"]}, config.to_dict()
    changed = [
        f"{key} {theirs[key]!r} -> {ours[key]!r}" for key in _SHARED if theirs[key] != ours[key]
    ]
    if changed:
        raise UserError(
            f"config.offline_run {folder} has other settings ({', '.join(changed)}); give this run "
            "the same"
        )
    if not (folder / "summary.json").exists():
        raise UserError(
            f"config.offline_run {folder} is not finished; finish it, or let this run train "
            "offline itself (--config.num_pretraining_steps)"
        )


def _first_state(
    run: Run, config: FinetuneConfig, offline_run: Path, template: IQLState
) -> tuple[IQLState, int]:
    """What the online phase of a run begins with where ``offline_run`` is set, and its step.

    Of a run that has a checkpoint, which holds all that it needs, the state is a template.
    """
    restored = read_newest(run.folder / "checkpoints", template)
    if restored is not None:
        progress = Progress(**restored[1])
        return template, progress.step - progress.extra["counters"]["env_steps"]
    return _offline_agent(run, config, offline_run, template)


def _offline_agent(
    run: Run, config: FinetuneConfig, folder: Path, template: IQLState
) -> tuple[IQLState, int]:
    """The agent of a finished offline run under this run's hyperparameters, and its update count.

    Raises:
        UserError: If that run was on other data, or its last state cannot be read.
    """
    record = read_record(folder)
    check_same_data(folder, record, run.record["dataset"])
    theirs = from_record(record["config"])
    state, step = load_state(folder, theirs, run.dataset)
    if step != theirs.max_steps:  # Its newest checkpoint is damaged, and an older one was read.
        raise UserError(
            f"config.offline_run {folder} ended at update {theirs.max_steps:,}, but its newest "
            f"readable checkpoint is of {step:,}; train it again in another folder"
        )
    logger.info(f"going on from {folder} at step {step:,}")
    state = template.replace(
        actor=state.actor,
        critic=state.critic,
        value=state.value,
        target_critic_params=state.target_critic_params,
        # Of both: runs of several seeds may go on from one.
        key=jax.random.fold_in(state.key, config.seed),
    )
    return state, step
