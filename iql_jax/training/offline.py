"""An offline run from config to summary: what ``train_offline.py`` does."""

from pathlib import Path
from typing import Any

from iql_jax.training import report
from iql_jax.training.config import Config
from iql_jax.training.loop import Loop
from iql_jax.training.run import initial_state, may_do_without_environment, offline_phase, open_run


def train_offline(config: Config, workdir: Path) -> dict[str, Any]:
    """Train, evaluate and save an agent; on a folder with a part of this run, go on with it.

    Args:
        config: The settings.
        workdir: The run's folder; see the README for what it holds afterwards.

    Returns:
        The contents of ``summary.json``.

    Raises:
        UserError: On anything that the user can mend.
        Interrupted: After SIGINT or SIGTERM, with the state saved.
    """
    with may_do_without_environment(), open_run(config, workdir) as run:
        state = initial_state(config, run.dataset)
        loop = Loop(
            config=config,
            folder=workdir,
            record=run.record,
            phases=[offline_phase(run, config.max_steps)],
            evaluate=run.evaluation,
            template=state,
            started=run.started,
        )
        state, progress = loop.run()
        return report.finish(run, state, progress)
