"""How a dataset is made, whatever is in it.

Workers collect shards and run the episodes for the reference scores; each keeps what it has
finished as a part (see ``workspace``). The parts are read in order into Minari's file, which is put
in place at the end. A making that was interrupted or killed goes on from its parts, to the same
content.
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from iql_jax.generation.parts import is_sound, read_part, write_part
from iql_jax.generation.plan import Plan, Returns, ScoreRun
from iql_jax.generation.reproducibility import code_digest, provenance
from iql_jax.generation.storage import add_episodes, is_complete, new_dataset
from iql_jax.generation.workers import never_stop, run_in_order
from iql_jax.generation.workspace import open_workspace
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError
from iql_jax.utils.processes import available_cores
from iql_jax.utils.signals import Interrupted


def collect(
    plan: Plan[Any, Any],
    *,
    progress: bool = True,
    force: bool = False,
    workers: int | None = None,
    score_episodes: int = 100,
    check: Callable[[], None] = never_stop,
) -> None:
    """Make a dataset in Minari's local folder, unless it is there, or in its place.

    The content is a function of the plan and of the number of episodes for the reference scores,
    whatever the number of processes and however often the making was interrupted. What is finished
    is kept whatever ends the making, a full disk too: it is most of the work, and the same
    call goes on from it.

    Args:
        plan: what to make.
        progress: whether to show progress bars.
        force: whether one of the same id is replaced.
        workers: the number of processes; None takes all cores where the steps, those for the
            reference scores too, are worth their start.
        score_episodes: episodes to average over for each reference score, as Minari computes them.
        check: called now and then; it stops the making by raising ``Interrupted``.

    Raises:
        UserError: if the disk is full, the folder cannot be written, a worker is killed, or
            another process is making the dataset.
        Interrupted: where ``check`` does.
    """
    if workers is None:
        limit = plan.eval_env_spec.max_episode_steps or 0
        steps = plan.steps + 2 * score_episodes * limit
        workers = available_cores() if steps >= plan.steps_worth_processes else 1
    runs = _score_runs(plan, score_episodes)
    with open_workspace(plan.dataset_id, _digest(plan, runs)) as workspace:
        if is_complete(plan.dataset_id) and not force:  # Another process has just made it.
            return
        shards = [
            _Job(workspace.part("shard", i), plan.collect_shard, shard, plan.recording)
            for i, shard in enumerate(plan.shards)
        ]
        scores = [
            _Job(workspace.part("score", i), plan.score_run, run, Returns)
            for i, run in enumerate(runs)
        ]
        with _end_in_words(plan, shards):
            _make(plan, workspace.folder, shards, scores, workers, progress, check)


@dataclasses.dataclass(frozen=True)
class _Job:
    """The making of one part: a file of what a function returns for a task."""

    path: pathlib.Path
    function: Callable[[Any], Any]
    task: Any  # A shard or a score run.
    kind: type[Any]

    @property
    def size(self) -> int:
        """Transitions of a shard, episodes of a score run."""
        return self.task.episodes if isinstance(self.task, ScoreRun) else self.task.transitions


def _make(
    plan: Plan[Any, Any],
    folder: pathlib.Path,
    shards: Sequence[_Job],
    scores: Sequence[_Job],
    workers: int,
    progress: bool,
    check: Callable[[], None],
) -> None:
    """Do what is left of the jobs, and make a dataset of all."""
    kept = {job.path for job in (*shards, *scores) if is_sound(job.path, job.kind)}
    missing = [job for job in (*shards, *scores) if job.path not in kept]
    steps_kept = _size(shards, kept)
    if kept:
        logger.info(
            f"{plan.dataset_id}: going on with {steps_kept:,} of {plan.steps:,} steps already made"
        )
    with (
        new_dataset(
            plan.dataset_id,
            folder,
            env_spec=plan.env_spec,
            observation_space=plan.observation_space,
            action_space=plan.action_space,
            expected_bytes=plan.steps * plan.file_bytes
            + (plan.steps - steps_kept) * plan.part_bytes,
        ) as storage,
        run_in_order(_do, missing, workers, check) as done,
    ):
        with _bar(shards, kept, "step", plan.dataset_id, progress) as bar:
            for recording in _results(shards, kept, done, bar):
                check()
                add_episodes(storage, plan.episodes(recording))
        returns: dict[bool, list[float]] = {False: [], True: []}
        with _bar(scores, kept, "episode", "reference scores", progress) as bar:
            for job, found in zip(scores, _results(scores, kept, done, bar), strict=True):
                returns[job.task.planned] += found.values.tolist()
        storage.update_metadata(_metadata(plan) | _reference_scores(returns))


def _do(job: _Job) -> None:
    write_part(job.path, job.function(job.task))


def _size(jobs: Sequence[_Job], done: Collection[pathlib.Path]) -> int:
    return sum(job.size for job in jobs if job.path in done)


def _bar(
    jobs: Sequence[_Job], kept: Collection[pathlib.Path], unit: str, name: str, progress: bool
) -> tqdm:
    total, initial = sum(job.size for job in jobs), _size(jobs, kept)
    return tqdm(total=total, initial=initial, unit=unit, desc=name, disable=not progress)


def _results(
    jobs: Sequence[_Job], kept: Collection[pathlib.Path], done: Iterator[None], bar: tqdm
) -> Iterator[Any]:
    """Read the results of jobs in order, waiting for those that are not kept."""
    for job in jobs:
        if job.path not in kept:
            next(done)
        yield read_part(job.path, job.kind)
        if job.path not in kept:
            bar.update(job.size)


@contextlib.contextmanager
def _end_in_words(plan: Plan[Any, Any], shards: Sequence[_Job]) -> Iterator[None]:
    """Say what is kept where the block is interrupted or fails."""

    def kept() -> str:
        steps = _size(shards, {shard.path for shard in shards if shard.path.exists()})
        return f"{steps:,} of {plan.steps:,} steps of {plan.dataset_id} are made and kept"

    try:
        yield
    except Interrupted as error:
        raise Interrupted(error.signum, f"{error}: {kept()}", resumable=True) from None
    except UserError as error:
        if not any(shard.path.exists() for shard in shards):
            raise
        raise UserError(f"{error} ({kept()}; the same command goes on from there)") from error


def _score_runs(plan: Plan[Any, Any], episodes: int) -> list[ScoreRun]:
    at_once = plan.episodes_per_score_run
    return [
        ScoreRun(plan.task, plan.seed, first, min(at_once, episodes - first), planned)
        for planned in (False, True)
        for first in range(0, episodes, at_once)
    ]


def _reference_scores(returns: dict[bool, list[float]]) -> dict[str, Any]:
    """Average the returns of the random policy and of the collecting one without noise.

    Minari defines the reference scores so. A maze's task goes on at the goal until the time limit,
    so its return counts the steps spent there.
    """
    return {
        "ref_min_score": float(np.mean(returns[False])),
        "ref_max_score": float(np.mean(returns[True])),
        "num_episodes_average_score": len(returns[True]),
    }


def _digest(plan: Plan[Any, Any], runs: list[ScoreRun]) -> str:
    """Sum up all that determines the content of the parts."""
    content = [_metadata(plan)["collection"], repr(plan.shards), repr(runs), code_digest()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _metadata(plan: Plan[Any, Any]) -> dict[str, Any]:
    own = {"steps": plan.steps, "seed": plan.seed, **plan.choices}
    return {
        "eval_env_spec": plan.eval_env_spec.to_json(),
        "algorithm_name": plan.algorithm,
        "description": (
            f"{plan.description} Made by: python -m iql_jax.datasets make {plan.dataset_id} "
            f"--steps {plan.steps} --seed {plan.seed}"
        ),
        "requirements": list(plan.requirements),
        **provenance(plan.collect_shard.__module__, **own),
    }
