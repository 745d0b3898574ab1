"""How episodes of AntMaze fail: ants lie on their backs, stay on the spot, or are under way.

    python benchmarks/failures.py --runs runs/antmaze runs/medium

An episode fails by its time limit. What its last 200 steps were like is told of it:

- *on the back*: in the mean over them, the ant's up pointed down;
- *on the spot*: the ant stayed within 2 m, in x and in y;
- *under way*: anything else.

Ants of the datasets keep their body's x axis along the world's, for a policy that sees the world
needs a gait of its own for each heading. How often ants leave it is told of all episodes: turned
by more than 0.8 rad (46 degrees), among the steps in which they stand upright.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

import reports
from iql_jax import cli
from iql_jax.data.load import Dataset
from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.episodes import EvaluationResult
from iql_jax.envs.lockstep import default_num_envs
from iql_jax.generation.ant_controller import rotation_matrices
from iql_jax.training.evaluation import RunEvaluation
from iql_jax.training.trained import Trained, load_run
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import StopRequest

LAST_STEPS = 200
SPOT = 2.0  # Metres.
TURNED = 0.8  # Rad.
UPRIGHT = 0.5  # Cosine of the angle between the ant's up and the world's.

KINDS = ("on the back", "on the spot", "under way")
HEADER = ["run", "task", "episodes", "failed", *KINDS, "ants ever turned", "steps turned"]

FloatArray = npt.NDArray[np.floating]


def main() -> None:
    """Load, walk, look."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders of runs")
    parser.add_argument("--episodes", type=int, default=100, help="of each (%(default)s)")
    parser.add_argument("--out", default="", help="markdown file to write the table to")
    options = parser.parse_args()
    if options.episodes < 1:
        parser.error("--episodes is 1 or more")
    rows = []
    with StopRequest() as stop:
        for folder in tqdm(options.runs, unit="run"):
            run = load_run(folder, progress=False)
            recipe = antmaze(run.dataset)
            result = walk(run, options.episodes, stop)
            rows.append([str(folder), run.dataset.record["id"], *row(result, recipe)])
    reports.publish(f"{reports.markdown(HEADER, rows)}\n", options.out)


def antmaze(dataset: Dataset) -> EnvironmentDescription:
    """The dataset's environment; others are refused, for what is looked at is an ant's body."""
    recipe = dataset.recipe
    if recipe is None or recipe.maze is None or recipe.action_dim != 8:
        raise UserError(f"{dataset.record['id']} is none of AntMaze's datasets")
    return recipe


def walk(run: Trained, episodes: int, stop: StopRequest) -> EvaluationResult:
    """The first episodes of the run's evaluation at its newest checkpoint, with their ways."""
    num_envs = default_num_envs(episodes, run.settings.eval_envs)
    with RunEvaluation(run.settings, run.dataset, episodes, num_envs) as evaluation:
        return evaluation.episodes(run.state, run.step, episodes, stop, record=episodes)


def row(result: EvaluationResult, recipe: EnvironmentDescription) -> list[str]:
    """The counts of one run."""
    assert result.successes is not None
    ways = [recipe.unnormalized(trajectory) for trajectory in result.trajectories]
    failures = [way for way, success in zip(ways, result.successes, strict=True) if not success]
    kinds = Counter(map(kind_of_failure, failures))
    upright, turned, ever = np.sum([turns(way) for way in ways], axis=0)
    return [
        str(len(ways)),
        str(len(failures)),
        *(str(kinds[kind]) for kind in KINDS),
        str(ever),
        f"{turned / max(upright, 1):.0%}",
    ]


def kind_of_failure(way: FloatArray) -> str:
    """Which of ``KINDS`` an episode's observations [T + 1, 29 or more] are."""
    last = way[-LAST_STEPS:]
    if up(last).mean() < 0.0:
        return "on the back"
    if np.ptp(last[:, :2], axis=0).max() < SPOT:
        return "on the spot"
    return "under way"


def turns(way: FloatArray) -> tuple[int, int, int]:
    """Of an episode's observations: how many are upright, how many of these turned, 1 if any."""
    upright = up(way) > UPRIGHT
    turned = upright & (np.abs(heading(way)) > TURNED)
    return int(upright.sum()), int(turned.sum()), int(turned.any())


def up(way: FloatArray) -> FloatArray:
    """The cosine of the angle between the ant's up and the world's, [T]."""
    return rotation_matrices(way[:, 3:7])[:, 2, 2]


def heading(way: FloatArray) -> FloatArray:
    """The angle from the world's x axis to the body's, seen from above, in rad, [T]."""
    rotations = rotation_matrices(way[:, 3:7])
    return np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])


if __name__ == "__main__":
    cli.guard(main)
