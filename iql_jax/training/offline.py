"""Offline training: the loop, and what ``train_offline.py`` does around it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from iql_jax.algorithm import IQLState, Transitions, update_n
from iql_jax.training import report
from iql_jax.training.compilation import compile_program
from iql_jax.training.config import Config
from iql_jax.training.evaluation import may_do_without_environment, open_evaluation
from iql_jax.training.run import Run, initial_state, open_run
from iql_jax.training.session import Evaluate, Session
from iql_jax.utils.console import logger

Update = Callable[[IQLState, int], tuple[IQLState, Any]]
"""Makes a number of updates; returns the state after them and the means of their metrics."""


def train_offline(config: Config, workdir: Path) -> dict[str, Any]:
    """Trains, evaluates and saves an agent; in a folder with a part of this run, resumes it.

    Returns the contents of ``summary.json``.

    Raises:
        UserError: On anything that the user can fix.
        Interrupted: After SIGINT or SIGTERM, with the state saved.
    """
    with may_do_without_environment(), open_run(config, workdir) as run:
        if (summary := report.of_finished(run)) is not None:
            return summary
        with open_evaluation(config, run.dataset) as evaluation:
            state = initial_state(config, run.dataset.layout)
            # What fails here leaves a new folder as it was; the environment is built meanwhile.
            update = compile_update(run, state)
            if evaluation is not None:
                evaluation.wait_until_ready()
            with Session(run, state, end=config.max_steps) as session:
                train_on_dataset(session, update, evaluation, config.max_steps)
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
