"""What decides whether IQL learns from Minari's AntMaze: the reading of its rewards, or its walls.

    python benchmarks/antmaze_semantics.py --jobs=2 --updates=1000000 --out=semantics.md
    python benchmarks/antmaze_semantics.py --together --updates=150000 --eval_interval=150000

Farama-Foundation/Minari issue 296 reports that IQL with the paper's settings and rewards r - 1
succeeds on D4RL's AntMaze and fails on Minari's. ``iql/antmaze-waiting`` is collected as Minari's
is: tasks that go on after the goal is reached, each episode with a goal of its own, at which the
ant waits until the time limit. Here the same episodes are read in every way:

- rewards: 'stored' (the episode's goal, which the policy does not see), 'episode' (the same, and it
  does) or 'eval' (recomputed for the one evaluation goal, as D4RL's are);
- at the goal: the bootstrap 'ends' or 'goes on'. Rewards are r - 1, so at the goal the reward is 0
  for as long as one stays: going on is a sound task as well. Evaluation ends at success in both;
- waiting: the steps that wait at the goal which rewards refer to are kept. Those at another goal,
  which there are where rewards are relabelled, are left out. How much of a difference between
  rewards this makes is told by two rows more on mazes where goals differ: relabelled, with all
  waiting kept, and as stored, with all of it left out;
- walls: the evaluation maze has the data's walls or, for umaze, those of Minari's metadata, which
  mirror them (see mirrored_umaze.py).

Only relabelled rewards depend on the evaluation maze. Policies of the other two are trained once
and evaluated in both mazes, after a check that their transitions are the same bits.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

import reports
import run_flags
import runs as bench
from elsewhere import elsewhere, evaluate_elsewhere
from iql_jax import cli
from iql_jax.outputs.logs import read_table
from mirrored_umaze import make_mirrored

REWARDS = {
    "stored": "as stored, goal hidden",
    "episode": "as stored, goal observed",
    "eval": "relabelled to the evaluation goal",
}

# The table's rows stand for these settings.
_OF_ROWS = ("maze_goal", "maze_terminate_at_success", "maze_drop", "maze_walls")

_FLAGS = run_flags.define_flags("runs/antmaze_semantics")
_TOGETHER = run_flags.define_together()
_TASKS = flags.DEFINE_list("tasks", ["umaze", "medium-play"], "Tasks of iql/antmaze-waiting.")
_UPDATES = flags.DEFINE_integer("updates", 1_000_000, "Updates of a run.", lower_bound=1)
_EVAL_INTERVAL = flags.DEFINE_integer(
    "eval_interval", 100_000, "Updates between evaluations.", lower_bound=1
)
_EVAL_EPISODES = flags.DEFINE_integer("eval_episodes", 100, "Of an evaluation.", lower_bound=1)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row of the table.

    Attributes:
        task: the maze and its data.
        mirrored: whether evaluation is in Minari's mirrored maze.
        goal: the config's maze_goal.
        terminate: the config's maze_terminate_at_success.
        drop: the config's maze_drop.
    """

    task: str
    mirrored: bool
    goal: str
    terminate: bool
    drop: str = "waiting_elsewhere"

    @property
    def shares_training(self) -> bool:
        """Whether its policies are those of the data's walls, evaluated elsewhere."""
        return self.mirrored and self.goal != "eval"


def main(_: list[str]) -> None:
    """Run what is missing, then print the table."""
    failed = []
    if not _FLAGS.only_report.value:
        mirrored = {task: make_mirrored(task) for task in _TASKS.value if has_mirror(task)}
        trained = [cell for cell in cells() if not cell.shares_training]
        seeds = range(_FLAGS.seeds.value)
        everything = [run(cell, seed) for seed in seeds for cell in trained]
        failed = bench.train(everything, _FLAGS.jobs.value, _TOGETHER.value)
        for cell in tqdm([cell for cell in cells() if cell.shares_training], unit="mirrored cell"):
            for seed in seeds:
                evaluate_elsewhere(run(cell, seed), mirrored[cell.task])
    reports.publish(report(), _FLAGS.out.value)
    bench.finish(failed)


def has_mirror(task: str) -> bool:
    """Whether Minari evaluates a task in the mirror image of its data's maze."""
    return task.startswith("umaze")


def has_own_goals(task: str) -> bool:
    """Whether episodes have other goals than the evaluation's."""
    return task != "umaze"


def cells() -> list[Cell]:
    """The rows of the table."""
    grid = [
        Cell(task, mirrored, goal, terminate)
        for task in _TASKS.value
        for mirrored in ((False, True) if has_mirror(task) else (False,))
        for goal in REWARDS
        for terminate in (False, True)
    ]
    controls = [
        Cell(task, False, goal, True, drop)
        for task in _TASKS.value
        if has_own_goals(task)
        for goal, drop in (("stored", "waiting"), ("eval", "nothing"))
    ]
    return grid + controls


def waiting(cell: Cell) -> str:
    """Which of the waiting is in a cell's data."""
    if cell.drop == "waiting":
        return "left out"
    if cell.drop == "waiting_elsewhere" and cell.goal == "eval" and has_own_goals(cell.task):
        return "at the evaluation goal"
    return "all"


def run(cell: Cell, seed: int) -> bench.Run:
    """The training that a cell's policy comes from."""
    own = cell.mirrored and not cell.shares_training
    maze = f"{cell.task}-mirrored" if own else cell.task
    end = "ends" if cell.terminate else "goes_on"
    drop = "" if cell.drop == "waiting_elsewhere" else f"-{cell.drop}"
    namespace = "antmaze-mirrored" if own else "antmaze-waiting"
    return bench.Run(
        folder=Path(_FLAGS.runs.value) / f"{maze}-{cell.goal}-{end}{drop}-seed{seed}",
        config="configs/antmaze.py",
        settings={
            "dataset": f"iql/{namespace}/{cell.task}-v0",
            "seed": seed,
            "max_steps": _UPDATES.value,
            "eval_interval": _EVAL_INTERVAL.value,
            "eval_episodes": _EVAL_EPISODES.value,
            "maze_goal": cell.goal,
            "maze_terminate_at_success": cell.terminate,
            "maze_drop": cell.drop,
            "maze_walls": "evaluation" if own else "data",
        },
    )


def report() -> str:
    """The table and what it means, in markdown."""
    header = [
        "task",
        "evaluation walls",
        "rewards",
        "at the goal",
        "waiting",
        "success (%), mean ± std",
        "95 % interval",
        "seeds",
        "updates",
        "transitions at the goal",
        "positions in walls",
        "mean V",
    ]
    everything = [run(cell, seed) for cell in cells() for seed in range(_FLAGS.seeds.value)]
    return (
        f"{reports.markdown(header, [row(cell) for cell in cells()])}\n\n"
        "Success at the last evaluation, which ends an episode at the goal. Rewards are r - 1 "
        "throughout. waiting: which steps that wait at a goal are in the training data. "
        "transitions at the goal: the share of the training data with reward 0 instead of -1. "
        "positions in walls: the share of the data's positions that lie in walls of the "
        "evaluation maze. mean V: over the batches since the last but one row of metrics.csv, "
        "mean of the seeds. mirrored: the maze of Minari's metadata (Minari issue 304); policies "
        "with stored rewards are those of the rows above, evaluated there. "
        f"{reports.other_settings(everything, told=('max_steps',), of_method=_OF_ROWS)}"
        f"{reports.INTERVAL_NOTE} {reports.NOT_RUN}: not run.\n"
    )


def row(cell: Cell) -> list[str]:
    """One row of the table; what was not run is left open."""
    seeds = [run(cell, seed) for seed in range(_FLAGS.seeds.value)]
    finished = [trained for trained in seeds if trained.summary() is not None]
    if cell.shares_training:
        finished = [trained for trained in finished if elsewhere(trained)]
        scores = np.array([elsewhere(trained)["score"] for trained in finished], dtype=np.float64)
    else:
        scores = reports.scores(finished)
    walls = "mirrored" if cell.mirrored else "the data's"
    return [
        cell.task,
        walls,
        REWARDS[cell.goal],
        "ends" if cell.terminate else "goes on",
        waiting(cell),
        reports.mean_std(scores),
        reports.interval_text(scores),
        reports.each(scores),
        reports.updates(finished),
        *(facts(cell, finished) if finished else [reports.NOT_RUN] * 3),
    ]


def facts(cell: Cell, finished: Sequence[bench.Run]) -> list[str]:
    """Shares of transitions at the goal and of positions in walls, and the mean of V."""
    data = finished[0].record()["dataset"]
    place = elsewhere(finished[0]) if cell.shares_training else data["choices"]
    values = [read_table(trained.folder / "metrics.csv")[-1]["v"] for trained in finished]
    return [
        f"{100 * data['choices']['transitions_at_goal'] / data['transitions']:.2f} %",
        f"{100 * place['positions_in_walls']:.1f} %",
        f"{np.mean(values):.1f}",
    ]


if __name__ == "__main__":
    cli.run(main)
