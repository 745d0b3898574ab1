"""What every run begins and ends with, whatever happens in between."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp

from iql_jax.checkpointing import Checkpoints
from iql_jax.config import Config
from iql_jax.console import say
from iql_jax.data.load import Dataset, load_dataset
from iql_jax.errors import UserError
from iql_jax.evaluation import default_num_envs
from iql_jax.interrupts import StopRequest
from iql_jax.learner import IQLState, create_state, update_n
from iql_jax.loop import Phase, Stretch
from iql_jax.metrics import require_wandb
from iql_jax.run_evaluation import RunEvaluation
from iql_jax.run_folder import Record, RunFolder

# On a CPU, XLA uses half the width of AVX-512 unless it is told otherwise.
COMPILER_OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_cpu_prefer_vector_width": "512"},
}


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run that is open: its folder is locked, its data are loaded, its environments wait.

    Attributes:
        config: The settings.
        folder: Where everything about it is kept.
        record: The run's record, as ``config.json`` has it.
        dataset: The data.
        evaluation: Evaluates a state; None to train without.
        started: ``time.perf_counter()`` when it was opened.
        startup: Seconds that parts of the start took, for ``summary.json``.
    """

    config: Config
    folder: Path
    record: Record
    dataset: Dataset
    evaluation: RunEvaluation | None
    started: float
    startup: dict[str, float]


@contextlib.contextmanager
def open_run(config: Config, workdir: Path) -> Iterator[Run]:
    """Open a new run, or one that was begun in this folder with the same settings and data.

    Raises:
        UserError: On anything that the user can mend.
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
        startup = {"load_seconds": load_seconds}
        yield Run(config, workdir, record, dataset, evaluation, started, startup)


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


def load_state(folder: Path, settings: Config, dataset: Dataset) -> tuple[IQLState, int]:
    """The newest saved state of a run, and the run's step there.

    Raises:
        UserError: If there is none that can be read.
    """
    checkpoints_folder = folder / "checkpoints"
    if not checkpoints_folder.is_dir():
        raise UserError(f"{folder} holds no checkpoint yet; train it first")
    with Checkpoints(checkpoints_folder, read_only=True) as checkpoints:
        restored = checkpoints.restore_newest(initial_state(settings, dataset))
    if restored is None:
        raise UserError(f"{folder} holds no checkpoint yet; train it first")
    state, progress = restored
    # Runs saved before there were phases had no other steps than updates.
    return state, progress.get("step", int(state.step))


def offline_phase(run: Run, state: IQLState, num_updates: int) -> Phase[IQLState]:
    """A phase whose steps are updates on the dataset, compiled here so that rates exclude it."""
    started = time.perf_counter()
    transitions = jax.device_put(run.dataset.transitions)
    compiled = update_n.lower(
        state, transitions, jnp.zeros((), jnp.int32), batch_size=run.config.batch_size
    ).compile(COMPILER_OPTIONS.get(jax.default_backend()))
    run.startup["compile_seconds"] = time.perf_counter() - started
    say(f"compiled the update in {run.startup['compile_seconds']:.1f} s")

    def advance(state: IQLState, num_updates: int, _: StopRequest) -> Stretch[IQLState]:
        state, metrics = compiled(state, transitions, jnp.asarray(num_updates, jnp.int32))
        return Stretch(state, metrics, steps=num_updates, updates=num_updates)

    return Phase(num_updates, advance)
