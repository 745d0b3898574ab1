"""What a finished run leaves for a person: ``summary.json`` and the pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from iql_jax import plots
from iql_jax.config import Config
from iql_jax.data.load import Dataset
from iql_jax.interrupts import StopRequest
from iql_jax.learner import IQLState
from iql_jax.loop import Progress
from iql_jax.metrics import read_table
from iql_jax.run_evaluation import RunEvaluation
from iql_jax.run_folder import Record, device_name, versions, write_json

FloatArray = npt.NDArray[np.float32]

SHOWN_EPISODES = 8  # Of the policy, in the picture.
SHOWN_DATA_STEPS = 20_000  # Of the data's paths, in the picture.
VALUED_POSITIONS = 200_000  # Observations whose value is drawn.


def summarize(
    folder: Path,
    record: Record,
    progress: Progress,
    startup: Mapping[str, float],
) -> dict[str, Any]:
    """Write and return ``summary.json``: the last evaluation, the speed, what was run on what.

    Args:
        folder: The run's folder.
        record: The run's record, as ``config.json`` has it.
        progress: How far it is, with its times.
        startup: Seconds that loading and compiling took when the program was last started.
    """
    evaluations = read_table(folder / "evaluations.csv")
    last = evaluations[-1] if evaluations else {}
    summary = {
        **{name: last.get(name) for name in ("score", "return_mean", "return_std", "success_rate")},
        "eval_episodes": record["config"]["eval_episodes"],
        "updates": progress.update,
        "updates_per_second": progress.update / max(progress.training_seconds, 1e-9),
        "training_seconds": progress.training_seconds,
        "eval_seconds": progress.eval_seconds,
        "wall_seconds": progress.wall_seconds,
        **startup,
        "seed": record["config"]["seed"],
        "dataset": {name: record["dataset"][name] for name in ("id", "source", "fingerprint")},
        "versions": versions(),
        "device": device_name(),
    }
    write_json(folder / "summary.json", summary)
    return summary


def closing_line(summary: Mapping[str, Any], folder: Path) -> str:
    """What a finished run says last."""
    name = "score" if summary["score"] is not None else "return_mean"
    result = "" if summary[name] is None else f"{name.replace('_', ' ')} {summary[name]:.1f}, "
    return (
        f"done: {result}{summary['updates']:,} updates at {summary['updates_per_second']:,.0f} "
        f"updates/s, evaluation {summary['eval_seconds']:.0f} s, wall "
        f"{summary['wall_seconds']:.0f} s; see {folder}"
    )


def draw(
    folder: Path,
    config: Config,
    dataset: Dataset,
    state: IQLState,
    evaluation: RunEvaluation | None,
) -> None:
    """Draw ``learning_curve.png`` and, for mazes, ``value_map.png``."""
    evaluations = read_table(folder / "evaluations.csv")
    if not evaluations:
        return
    label = "success (%)" if dataset.score_rule.kind == "success" else "normalised score"
    title = f"{dataset.record['id']}, seed {config.seed}"
    plots.learning_curve(folder / "learning_curve.png", evaluations, label, title)
    if evaluation is None or dataset.recipe is None or dataset.recipe.maze is None:
        return
    with StopRequest() as stop:
        shown = evaluation.episodes(state, config.max_steps, SHOWN_EPISODES, stop, SHOWN_EPISODES)
    observations = dataset.transitions.observations
    valued = observations[:: max(1, len(observations) // VALUED_POSITIONS)]
    goal = dataset.recipe.maze.goal
    plots.value_map(
        folder / "value_map.png",
        maze_map=dataset.recipe.maze.map,
        positions=_positions(dataset, valued),
        values=state_values(state, valued),
        data_paths=_data_paths(dataset),
        policy_paths=[_positions(dataset, path) for path in shown.trajectories],
        goal=goal,
        title=title,
    )


def state_values(state: IQLState, observations: Any) -> FloatArray:
    """V of every observation: [N, observation_dim] to [N]."""
    value = jax.jit(state.value.apply_fn)
    chunks = np.array_split(observations, -(-len(observations) // 10_000))
    return np.concatenate([np.asarray(value(state.value.params, chunk)) for chunk in chunks])


def _positions(dataset: Dataset, observations: Any) -> FloatArray:
    """Positions in metres, [N, 2]: the first two entries of a maze's observation."""
    recipe = dataset.recipe
    positions = np.asarray(observations)[:, :2]
    if recipe is None or recipe.observation_mean is None or recipe.observation_std is None:
        return positions
    return positions * recipe.observation_std[:2] + recipe.observation_mean[:2]


def _data_paths(dataset: Dataset) -> list[FloatArray]:
    """The data's own paths, cut where one transition does not lead to the next."""
    transitions = dataset.transitions
    observations = np.asarray(transitions.observations)[:SHOWN_DATA_STEPS]
    follows = np.asarray(transitions.next_observations)[: len(observations) - 1]
    jumps = np.any(follows != observations[1:], axis=1)
    paths = np.split(_positions(dataset, observations), np.flatnonzero(jumps) + 1)
    return [path for path in paths if len(path) > 1]
