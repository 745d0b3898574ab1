"""An offline run from config to summary: what ``train_offline.py`` does."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from iql_jax import report
from iql_jax.config import Config
from iql_jax.console import say
from iql_jax.data.load import Dataset, load_dataset
from iql_jax.evaluation import default_num_envs
from iql_jax.learner import IQLState, create_state, update_n
from iql_jax.loop import Loop
from iql_jax.metrics import require_wandb
from iql_jax.run_evaluation import RunEvaluation
from iql_jax.run_folder import RunFolder
from iql_jax.types import Metrics, Transitions

# On a CPU, XLA uses half the width of AVX-512 unless it is told otherwise.
COMPILER_OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_cpu_prefer_vector_width": "512"},
}


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
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        require_wandb(config.wandb_project)
        folder = stack.enter_context(RunFolder(workdir))
        folder.check_settings(config.to_dict())
        dataset = load_dataset(config)
        load_seconds = time.perf_counter() - started
        num_envs = default_num_envs(config.eval_episodes, config.eval_envs)
        record = folder.claim(config.to_dict(), dataset.record, num_envs)
        say(
            f"{dataset.record['id']} ({dataset.record['source']}): "
            f"{dataset.transitions.size:,} transitions in {load_seconds:.1f} s"
        )

        evaluation = None
        if config.eval_episodes > 0:
            evaluation = stack.enter_context(
                RunEvaluation(config, dataset, config.eval_episodes, record["num_envs"])
            )
        state = initial_state(config, dataset)
        compiling = time.perf_counter()
        advance = compile_advance(state, dataset.transitions, config.batch_size)
        compile_seconds = time.perf_counter() - compiling
        say(f"compiled the update in {compile_seconds:.1f} s")
        loop = Loop(
            config=config,
            folder=workdir,
            record=record,
            advance=advance,
            evaluate=evaluation,
            template=state,
            started=started,
        )
        state, progress = loop.run()
        report.draw(workdir, config, dataset, state, evaluation)
        startup = {"load_seconds": load_seconds, "compile_seconds": compile_seconds}
        summary = report.summarize(workdir, record, progress, startup)
        say(report.closing_line(summary, workdir))
        return summary


def initial_state(config: Config, dataset: Dataset) -> IQLState:
    """The learner's state before the first update."""
    decays = config.opt_decay_schedule == "cosine"
    return create_state(
        jax.random.key(config.seed),
        dataset.transitions.observations.shape[-1],
        dataset.transitions.actions.shape[-1],
        hidden_dims=config.hidden_dims,
        expectile=config.expectile,
        temperature=config.temperature,
        max_weight=config.max_weight,
        discount=config.discount,
        tau=config.tau,
        actor_lr=config.actor_lr,
        value_lr=config.value_lr,
        critic_lr=config.critic_lr,
        actor_decay_steps=config.max_steps if decays else None,
        dropout_rate=config.dropout_rate,
    )


def compile_advance(
    state: IQLState, transitions: Transitions, batch_size: int
) -> Callable[[IQLState, int], tuple[IQLState, Metrics]]:
    """Compile ``update_n`` for these data, apart from the first call so that rates exclude it.

    Returns:
        A function from (state, number of updates) to (state, mean metrics).
    """
    on_device = jax.device_put(transitions)
    lowered = update_n.lower(state, on_device, jnp.zeros((), jnp.int32), batch_size=batch_size)
    compiled = lowered.compile(COMPILER_OPTIONS.get(jax.default_backend()))

    def advance(state: IQLState, num_updates: int) -> tuple[IQLState, Metrics]:
        return compiled(state, on_device, jnp.asarray(num_updates, jnp.int32))

    return advance
