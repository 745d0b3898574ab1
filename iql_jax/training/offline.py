"""Offline training: the loop, and what ``train_offline.py`` does around it."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from iql_jax.algorithm import IQLState, Transitions, update_n
from iql_jax.data.load import Arrays
from iql_jax.envs.description import Layout
from iql_jax.envs.policy import TrainedPolicy
from iql_jax.outputs.logs import Values
from iql_jax.training import report
from iql_jax.training.compilation import compile_program
from iql_jax.training.config import Config
from iql_jax.training.evaluation import (
    may_do_without_environment,
    numpy_policy,
    open_evaluation,
)
from iql_jax.training.run import IN_MEMORY, Run, initial_state, open_run
from iql_jax.training.session import Evaluate, Session
from iql_jax.utils.console import logger
from iql_jax.utils.signals import StopRequest

Update = Callable[[IQLState, int], tuple[IQLState, Any]]
"""Makes a number of updates; returns the state after them and the means of their metrics."""


OnEvaluation = Callable[[int, TrainedPolicy, Values], Values | None]
"""Sees a step, the policy at it, and the row of evaluations.csv; may return more for that row."""


def train_offline(
    config: Config,
    workdir: Path | str,
    data: Arrays | None = None,
    on_evaluation: OnEvaluation | None = None,
) -> dict[str, Any]:
    """Trains, evaluates and saves an agent; in a folder with a part of this run, resumes it.

    ``data`` are arrays in place of the config's dataset: ``observations`` [N, d], ``actions``
    [N, a], ``rewards`` [N], and ``terminals`` (or ``masks``, 0 where the episode terminated). Rows
    follow each other in time. ``next_observations`` [N, d] may be there; without them, the
    following row's are taken, and ``timeouts`` are 1 in the last row before a reset.

    ``on_evaluation`` is called every ``config.eval_interval`` updates, with an environment or
    without: then the row is empty.

    Returns the contents of ``summary.json``.

    Raises:
        UserError: On anything that the user can fix.
        Interrupted: After SIGINT or SIGTERM, with the state saved.
    """
    if data is not None:
        config = dataclasses.replace(config, dataset=IN_MEMORY.source)
    with may_do_without_environment(), open_run(config, Path(workdir), data=data) as run:
        if (summary := report.of_finished(run)) is not None:
            return summary
        with open_evaluation(config, run.dataset) as evaluation:
            state = initial_state(config, run.dataset.layout)
            # What fails here leaves a new folder as it was; the environment is built meanwhile.
            update = compile_update(run, state)
            if evaluation is not None:
                evaluation.evaluator.wait_until_built()
            with Session(run, state, end=config.max_steps) as session:
                evaluate = _seen(evaluation, on_evaluation, run.dataset.layout)
                train_on_dataset(session, update, evaluate, config.max_steps)
                return report.finish(run, session.state, session.progress, evaluation)


def train_on_dataset(session: Session, update: Update, evaluate: Evaluate | None, end: int) -> None:
    """Updates up to step ``end``; logs, evaluates and saves at every boundary on the way."""
    session.enter_phase(0, end)
    while True:
        session.log_if_due()
        session.evaluate_if_due(evaluate)
        session.save_if_due()
        session.stop.check()
        if session.step == end:
            return
        count = session.steps_until_due()
        session.state, metrics = update(session.state, count)
        session.record(metrics, steps=count, updates=count)


def _seen(
    evaluate: Evaluate | None, on_evaluation: OnEvaluation | None, layout: Layout
) -> Evaluate | None:
    """Returns an evaluation whose rows ``on_evaluation`` sees and adds to."""
    if on_evaluation is None:
        return evaluate

    def evaluate_and_show(state: IQLState, step: int, stop: StopRequest) -> Values:
        row = {} if evaluate is None else evaluate(state, step, stop)
        policy = TrainedPolicy(numpy_policy(state.actor), layout)
        return {**row, **(on_evaluation(step, policy, row) or {})}

    return evaluate_and_show


def compile_update(run: Run, state: IQLState) -> Update:
    """Puts the run's dataset on the device and compiles ``update_n`` for it."""
    transitions = jax.device_put(Transitions(**run.dataset.transitions))
    started = time.perf_counter()
    program = compile_program(
        update_n.lower(state, transitions, np.int32(0), batch_size=run.config.batch_size)
    )
    run.startup["compile_seconds"] = time.perf_counter() - started
    logger.info(f"compiled the update in {run.startup['compile_seconds']:.1f} s")
    return lambda state, count: program(state, transitions, np.int32(count))
