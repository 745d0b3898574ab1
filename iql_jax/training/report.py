"""Writes ``summary.json`` and the pictures of a finished run."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from iql_jax.algorithm import IQLState
from iql_jax.data.load import Dataset
from iql_jax.data.scores import ScoreRule
from iql_jax.envs.episodes import EvaluationResult
from iql_jax.outputs import plots
from iql_jax.outputs.folder import device_name, versions, write_json
from iql_jax.outputs.logs import read_table
from iql_jax.training.evaluation import Evaluation
from iql_jax.training.run import Run
from iql_jax.training.session import Progress
from iql_jax.utils.arrays import Float32
from iql_jax.utils.console import logger
from iql_jax.utils.files import read_json
from iql_jax.utils.signals import StopRequest

PICTURES = ("learning_curve.png", "value_map.png")
FILM = "film.mp4"
SHOWN_EPISODES = 8  # Of the policy, in the picture.
SHOWN_DATA_STEPS = 20_000  # Of the data's paths, in the picture.
VALUED_POSITIONS = 200_000  # Of the data, at most: those whose value is drawn.


def finish(
    run: Run,
    state: IQLState,
    progress: Progress,
    evaluation: Evaluation | None,
    more: Mapping[str, Any] | None = None,
    boundary: int | None = None,
    policy_paths: Sequence[Float32] | None = None,
) -> dict[str, Any]:
    """Draws the pictures of a finished run, writes and returns its summary, and logs its end.

    In a maze it draws ``policy_paths`` or, without them, runs new episodes. ``more`` is added to
    the summary. ``boundary`` is the first step of the second phase.
    """
    if policy_paths is None and evaluation is not None and has_maze(run.dataset):
        with StopRequest(resumable=True) as stop:
            shown = evaluation.episodes(
                state, progress.step, SHOWN_EPISODES, stop, record=SHOWN_EPISODES
            )
        policy_paths = shown_paths(run.dataset, shown)
    draw(run, state, boundary, policy_paths)
    if evaluation is not None and run.config.video:
        evaluation.film(state, progress.step, run.folder / FILM)
    summary = {**summarize(run, progress), **(more or {})}
    write_json(run.folder / "summary.json", summary)
    logger.info(
        f"done: {result(summary)}{summary['updates']:,} updates at "
        f"{summary['updates_per_second']:,.0f} updates/s, evaluation "
        f"{summary['eval_seconds']:.0f} s, wall {summary['wall_seconds']:.0f} s; see {run.folder}"
    )
    if evaluation is not None:
        files = [name for name in (*PICTURES, FILM) if (run.folder / name).exists()]
        logger.info(f"it has {', '.join(files)}")
        logger.info(
            f"evaluate and film it with: {sys.executable} -m iql_jax.evaluate "
            f"--workdir={shlex.quote(str(run.folder))} --episodes=100 --video=film.mp4"
        )
    return summary


def result(summary: Mapping[str, Any]) -> str:
    """Returns a summary's last evaluation in words, and the interval that its episodes leave."""
    name = "score" if summary["score"] is not None else "return_mean"
    if summary[name] is None:
        return ""
    interval = ""
    if summary["interval"] is not None:
        low, high = summary["interval"]
        interval = f", with 95 % confidence {low:.1f} to {high:.1f}"
    count = summary["eval_episodes"]
    return f"{name.replace('_', ' ')} {summary[name]:.1f} ({count:,} episodes{interval}), "


def of_finished(run: Run) -> dict[str, Any] | None:
    """Returns the summary of a run that was finished before; None for one that is not."""
    path = run.folder / "summary.json"
    if not path.exists():
        return None
    logger.info(f"finished before; see {run.folder}")
    return read_json(path, "delete it, and the same command writes it again")


def summarize(run: Run, progress: Progress) -> dict[str, Any]:
    """Returns the last evaluation, the speed, and what was run on what."""
    evaluations = read_table(run.folder / "evaluations.csv")
    last = evaluations[-1] if evaluations else {}
    return {
        **{name: last.get(name) for name in ("score", "return_mean", "return_std", "success_rate")},
        "interval": _interval(last, run.dataset.score_rule),
        "eval_episodes": run.config.eval_episodes,
        "updates": progress.updates,
        "updates_per_second": progress.updates / max(progress.training_seconds, 1e-9),
        "training_seconds": progress.training_seconds,
        "eval_seconds": progress.eval_seconds,
        "wall_seconds": progress.wall_seconds,
        **run.startup,
        "seed": run.config.seed,
        "dataset": {name: run.record["dataset"][name] for name in ("id", "origin", "fingerprint")},
        "versions": versions(),
        "device": device_name(),
    }


def _interval(row: Mapping[str, Any], rule: ScoreRule) -> list[float] | None:
    """Returns the 95 % interval of one policy's score, or else return, that its episodes leave.

    Wilson's of a success rate, Student's of a mean; None where there is none.
    """
    import scipy.stats  # Half a second, which no start of a run waits for.

    count = int(row.get("episodes") or 0)
    if rule.kind == "success" and count and row["success_rate"] is not None:
        successes = round(row["success_rate"] * count)
        ends = scipy.stats.binomtest(successes, count).proportion_ci(method="wilson")
        return [100 * ends.low, 100 * ends.high]
    if count < 2:
        return None
    half = scipy.stats.t.ppf(0.975, count - 1) * row["return_std"] / np.sqrt(count - 1)
    returns = [float(row["return_mean"] + end) for end in (-half, half)]
    scores = [rule.score([end], None) for end in returns]
    return [x if score is None else score for x, score in zip(returns, scores, strict=True)]


def draw(
    run: Run, state: IQLState, boundary: int | None, policy_paths: Sequence[Float32] | None
) -> None:
    """Draws ``learning_curve.png`` and, where the policy's paths are given, ``value_map.png``."""
    dataset = run.dataset
    evaluations = read_table(run.folder / "evaluations.csv")
    if not evaluations:
        return
    name = dataset.record.get("file") or dataset.record["id"]
    title = f"{name}, seed {run.config.seed}"
    plots.learning_curve(
        run.folder / "learning_curve.png",
        evaluations,
        "success (%)" if dataset.score_rule.kind == "success" else "normalized score",
        title,
        boundary=boundary,
    )
    if policy_paths is None or dataset.environment is None or dataset.environment.maze is None:
        return
    observations = dataset.transitions["observations"]
    valued = observations[:: -(-len(observations) // VALUED_POSITIONS)]
    plots.value_map(
        run.folder / "value_map.png",
        maze_map=dataset.environment.maze.map,
        positions=_positions(dataset, valued),
        values=state_values(state, valued),
        data_paths=_data_paths(dataset),
        policy_paths=policy_paths,
        goal=dataset.environment.maze.goal,
        title=title,
    )


def has_maze(dataset: Dataset) -> bool:
    """Returns whether there is a maze to draw."""
    return dataset.environment is not None and dataset.environment.maze is not None


def shown_paths(dataset: Dataset, result: EvaluationResult) -> list[Float32]:
    """Returns the paths in meters, [T, 2], of the episodes that were recorded."""
    return [_positions(dataset, observations) for observations in result.trajectories]


def state_values(state: IQLState, observations: Any) -> Float32:
    """Returns V of every observation: [N, observation_dim] to [N]."""
    value = jax.jit(state.value.apply_fn)
    chunks = np.array_split(observations, -(-len(observations) // 10_000))
    return np.concatenate([np.asarray(value(state.value.params, chunk)) for chunk in chunks])


def _positions(dataset: Dataset, observations: Any) -> Float32:
    """Positions in meters, [N, 2]: the first two entries of a maze's observation."""
    positions = np.asarray(observations)[:, :2]
    return positions if dataset.environment is None else dataset.environment.unnormalized(positions)


def _data_paths(dataset: Dataset) -> list[Float32]:
    """Returns the data's paths, cut where one transition does not lead to the next."""
    observations = dataset.transitions["observations"][:SHOWN_DATA_STEPS]
    follows = dataset.transitions["next_observations"][: len(observations) - 1]
    jumps = np.any(follows != observations[1:], axis=1)
    paths = np.split(_positions(dataset, observations), np.flatnonzero(jumps) + 1)
    return [path for path in paths if len(path) > 1]
