"""Fine-tuning: an offline phase or a finished offline run, then the environment."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from iql_jax.algorithm import IQLState
from iql_jax.data.config import DATA_KEYS
from iql_jax.data.load import Dataset
from iql_jax.outputs.checkpoints import newest_step, read_newest
from iql_jax.outputs.folder import check_same_data, read_record, record_change
from iql_jax.outputs.logs import read_table
from iql_jax.training import report
from iql_jax.training.config import FinetuneConfig, complete, from_record, kind_of
from iql_jax.training.evaluation import Evaluation, open_evaluation
from iql_jax.training.offline import compile_update, train_on_dataset
from iql_jax.training.online import Online
from iql_jax.training.run import Loaded, Run, initial_state, load_state, open_run
from iql_jax.training.session import Session
from iql_jax.utils.console import logger
from iql_jax.utils.errors import Diverged, UserError
from iql_jax.utils.streams import Stream, stream_seed

# A run that continues another one's agent must share what makes that agent and its data.
_SHARED = ("hidden_dims", "num_critics", "layer_norm", *DATA_KEYS)


def train_finetune(
    config: FinetuneConfig, workdir: Path, loaded: Loaded | None = None
) -> dict[str, Any]:
    """Trains offline, then online, or resumes; see ``train_offline``."""
    checkpoints = workdir / "checkpoints"
    offline_run = Path(config.offline_run) if config.offline_run else None
    if offline_run is not None and newest_step(checkpoints) is None:
        _check_offline_run(offline_run, config)  # Before the data are loaded.
    with open_run(config, workdir, offline_run, loaded=loaded) as run:
        if (summary := report.of_finished(run)) is not None:
            return summary
        run = dataclasses.replace(run, dataset=_subset(run.dataset, config))
        state, boundary = initial_state(config, run.dataset.layout), config.num_pretraining_steps
        if offline_run is not None:
            state, boundary = _first_state(run, config, offline_run, state)
        is_offline = offline_run is None and (newest_step(checkpoints) or 0) < boundary
        with (
            open_evaluation(config, run.dataset) as evaluation,
            Online(config, run.dataset, workdir / "transitions") as online,
        ):
            update = compile_update(run, state) if is_offline else None
            record_change(workdir, config.to_dict())
            with Session(
                run,
                state,
                end=boundary + config.max_steps,
                unit="step",
                first_step=0 if offline_run is None else boundary,
                tables=("episodes",),
                companion=online,
            ) as session:
                if offline_run is None and boundary > 0 and session.step <= boundary:
                    update = update or compile_update(run, state)
                    train_on_dataset(session, update, evaluation, boundary)
                update = None  # And with it goes the dataset's copy on the device.
                train_in_environment(session, online, evaluation, boundary, config)
                more = {**_more(workdir, boundary), **online.totals()}
                return report.finish(
                    run, session.state, session.progress, evaluation, more, boundary=boundary
                )


def train_in_environment(
    session: Session,
    online: Online,
    evaluation: Evaluation | None,
    boundary: int,
    config: FinetuneConfig,
) -> None:
    """Steps the environments and updates, from step ``boundary`` on."""
    end = boundary + config.max_steps
    session.enter_phase(boundary, end, stride=config.num_envs, rate="env_steps_per_second")
    if session.step < end:
        online.start(session.state)
    while True:
        session.log_if_due()
        session.evaluate_if_due(evaluation)
        session.save_if_due()
        session.stop.check()
        if session.step == end:
            return
        steps, made = session.steps_until_due(), 0
        failure: UserError | None = None
        while made < steps and session.stop.signum is None:
            try:
                episodes = online.step()
            except UserError as error:
                failure = error
                break
            made += config.num_envs
            for row in episodes:
                session.write("episodes", row, step=session.step + made)
            session.state = online.learn(session.state)
        metrics, updates = online.take_metrics(whole=made == steps)
        session.record(metrics, steps=made, updates=updates)
        if isinstance(failure, Diverged):
            session.diverge(str(failure))
        if failure is not None:
            session.stop.check()  # A signal to the process group may have ended the workers.
            online.drop_episodes()
            session.fail(failure)


def _more(folder: Path, boundary: int) -> dict[str, Any]:
    """Returns what the summary of a fine-tuning run has besides an offline run's."""
    evaluations, episodes = (read_table(folder / f"{x}.csv") for x in ("evaluations", "episodes"))
    at_boundary = (row["score"] for row in evaluations if row["step"] == boundary)
    return {
        "offline_score": next(at_boundary, None),
        "regret": episodes[-1]["regret"] if episodes else None,
    }


def _subset(dataset: Dataset, config: FinetuneConfig) -> Dataset:
    """Returns the dataset with ``init_dataset_size`` transitions drawn without replacement."""
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
    transitions = {name: np.take(x, rows, axis=0) for name, x in dataset.transitions.items()}
    return dataclasses.replace(dataset, transitions=transitions)


def _check_offline_run(folder: Path, config: FinetuneConfig) -> None:
    """Refuses a folder that is no finished offline run of an agent like this run's."""
    theirs = complete(read_record(folder)["config"])
    if kind_of(theirs) is FinetuneConfig:
        raise UserError(
            f"config.offline_run {folder} is a fine-tuning run; name one of train_offline.py"
        )
    ours = config.to_dict()
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
    """Returns the state and the step with which a run on top of ``offline_run`` starts."""
    restored = read_newest(run.folder / "checkpoints", template)
    if restored is not None:  # The session restores all that the run needs.
        progress = restored[1]
        return template, progress["step"] - progress["companion"]["counters"]["env_steps"]
    record = read_record(offline_run)
    check_same_data(offline_run, record, run.record["dataset"])
    theirs = from_record(record["config"])
    state, step = load_state(offline_run, theirs, run.dataset.layout)
    if step != theirs.max_steps:  # Its newest checkpoint is damaged, and an older one was read.
        raise UserError(
            f"config.offline_run {offline_run} ended at update {theirs.max_steps:,}, but its "
            f"newest readable checkpoint is of {step:,}; train it again in another folder"
        )
    logger.info(f"continuing from {offline_run} at step {step:,}")
    state = template.replace(
        actor=state.actor,
        critic=state.critic,
        value=state.value,
        target_critic_params=state.target_critic_params,
        # Of both: runs of several seeds may start from one.
        key=jax.random.fold_in(state.key, config.seed),
    )
    return state, step
