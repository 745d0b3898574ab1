"""Success on the embedded PointMaze datasets: IQL and behavioural cloning, several seeds.

    python benchmarks/pointmaze.py --runs=runs/pointmaze_benchmark [--jobs=2]

Each run is ``train_offline.py --config=configs/pointmaze.py`` as anyone would start it, in a
process and a folder of its own; cloning is the same with --config.temperature=0. Finished runs are
not repeated and interrupted ones go on. The table (markdown) is printed and written to --out.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

import runs

_RUNS = flags.DEFINE_string("runs", "runs/pointmaze_benchmark", "Folder of the runs.")
_OUT = flags.DEFINE_string("out", "", "Markdown file to write the table to.")
_TASKS = flags.DEFINE_list("tasks", ["umaze", "medium", "large"], "Mazes.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds of each, from 0 on.", lower_bound=1)
_JOBS = flags.DEFINE_integer(
    "jobs", 1, "Runs at once; each gets its share of the cores.", lower_bound=1
)

METHODS: dict[str, dict[str, Any]] = {"IQL": {}, "BC": {"temperature": 0.0}}


def main(_: Sequence[str]) -> None:
    """Run what is missing, then print the table."""
    everything = [
        run(method, task, seed)
        for method in METHODS
        for seed in range(_SEEDS.value)
        for task in _TASKS.value
    ]
    failed = runs.run_all(everything, _JOBS.value)
    if runs.summaries(everything):
        runs.publish(table(), _OUT.value)
    runs.finish(failed)


def run(method: str, task: str, seed: int) -> runs.Run:
    """One agent's training."""
    return runs.Run(
        folder=Path(_RUNS.value) / f"{method.lower()}-{task}-seed{seed}",
        config="configs/pointmaze.py",
        settings={"dataset": f"iql/pointmaze/{task}-v0", "seed": seed, **METHODS[method]},
    )


def table() -> str:
    """Markdown: mean success over seeds, standard deviation, 95 % interval, time."""
    header = [
        "maze",
        "method",
        "success (%), mean ± std",
        "95 % interval",
        "seeds",
        "updates",
        "minutes",
    ]
    rows, episodes = [], 0
    for task in _TASKS.value:
        for method in METHODS:
            seeds = [run(method, task, seed) for seed in range(_SEEDS.value)]
            summaries, scores = runs.summaries(seeds), runs.scores(seeds)
            if not summaries:
                continue
            episodes = summaries[0]["eval_episodes"]
            minutes = max(summary["wall_seconds"] for summary in summaries) / 60
            rows.append(
                [
                    task,
                    method,
                    runs.mean_std(scores),
                    runs.interval_text(scores),
                    runs.each(scores),
                    runs.updates(seeds),
                    f"{minutes:.1f}",
                ]
            )
    return (
        f"{runs.markdown(header, rows)}\n\n"
        f"Last evaluation, {episodes} episodes a seed; minutes of the slowest "
        f"seed's run, evaluation included, {_JOBS.value} at once on {os.cpu_count()} cores. "
        "The interval is Student's t over seeds, cut to [0, 100].\n"
    )


if __name__ == "__main__":
    app.run(main)
