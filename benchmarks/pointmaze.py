"""Success on the embedded PointMaze datasets: IQL and behavioural cloning, several seeds.

    python benchmarks/pointmaze.py --runs=runs/pointmaze_benchmark [--jobs=2]

Each run is ``train_offline.py --config=configs/pointmaze.py`` as anyone would start it, in a
process and a folder of its own; cloning is the same with --config.temperature=0. Finished runs are
not repeated and interrupted ones go on. The table (markdown) is printed and written to --out.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from absl import app, flags
from tqdm import tqdm

ROOT = Path(__file__).parent.parent

_RUNS = flags.DEFINE_string("runs", "runs/pointmaze_benchmark", "Folder of the runs.")
_OUT = flags.DEFINE_string("out", "", "Markdown file to write the table to.")
_TASKS = flags.DEFINE_list("tasks", ["umaze", "medium", "large"], "Mazes.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds of each, from 0 on.", lower_bound=1)
_JOBS = flags.DEFINE_integer(
    "jobs", 1, "Runs at once; each gets its share of the cores.", lower_bound=1
)

METHODS = {"IQL": [], "BC": ["--config.temperature=0.0"]}


def main(_: Sequence[str]) -> None:
    """Run what is missing, then print the table."""
    cells = [
        (method, task, seed)
        for method in METHODS
        for seed in range(_SEEDS.value)
        for task in _TASKS.value
    ]
    # Where the system lets a process be kept to some cores, each job gets its own.
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    shares = [set(cores[i :: _JOBS.value]) for i in range(_JOBS.value)]

    def work(job: int) -> None:
        for cell in cells[job :: _JOBS.value]:
            run(*cell, cores=shares[job])
            bar.update()

    with tqdm(total=len(cells), unit="run") as bar, ThreadPoolExecutor(_JOBS.value) as pool:
        list(pool.map(work, range(_JOBS.value)))
    text = table({cell: summary(*cell) for cell in cells})
    print(text)
    if _OUT.value:
        Path(_OUT.value).write_text(text)


def folder(method: str, task: str, seed: int) -> Path:
    """The folder of a run."""
    return Path(_RUNS.value) / f"{method.lower()}-{task}-seed{seed}"


def summary(method: str, task: str, seed: int) -> dict[str, Any]:
    """What a finished run reports."""
    return dict(json.loads((folder(method, task, seed) / "summary.json").read_text()))


def run(method: str, task: str, seed: int, cores: set[int]) -> None:
    """Train one agent, unless it is trained already."""
    path = folder(method, task, seed)
    if (path / "summary.json").exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "train_offline.py",
        "--config=configs/pointmaze.py",
        f"--workdir={path.absolute()}",
        f"--config.dataset=iql/pointmaze/{task}-v0",
        f"--config.seed={seed}",
        "--config.progress=False",
        *METHODS[method],
    ]
    log = path.with_suffix(".log")
    with log.open("a") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        if cores:
            os.sched_setaffinity(process.pid, cores)
        if process.wait() != 0:
            sys.exit(f"{path} failed; see {log}")


def table(summaries: dict[tuple[str, str, int], dict[str, Any]]) -> str:
    """Markdown: mean success over seeds, standard deviation, 95 % interval, time."""
    lines = [
        "| maze | method | success (%), mean ± std | 95 % interval | seeds | updates | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for task in _TASKS.value:
        for method in METHODS:
            runs = [summaries[method, task, seed] for seed in range(_SEEDS.value)]
            scores = np.array([run["score"] for run in runs])
            low, high = interval(scores)
            minutes = max(run["wall_seconds"] for run in runs) / 60
            lines.append(
                f"| {task} | {method} | {scores.mean():.1f} ± {scores.std(ddof=1):.1f} "
                f"| {low:.1f} to {high:.1f} | {', '.join(f'{score:.0f}' for score in scores)} "
                f"| {runs[0]['updates']:,} | {minutes:.1f} |"
            )
    some = next(iter(summaries.values()))
    return "\n".join(
        [
            *lines,
            "",
            f"Last evaluation, {some['eval_episodes']} episodes a seed; minutes of the slowest "
            f"seed's run, evaluation included, {_JOBS.value} at once on {os.cpu_count()} cores. "
            "The interval is Student's t over seeds, cut to [0, 100].",
            "",
        ]
    )


def interval(scores: Any) -> tuple[float, float]:
    """The 95 % interval of the mean of a few seeds by Student's t, within [0, 100]."""
    if len(scores) < 2 or np.ptp(scores) == 0:
        return float(scores.mean()), float(scores.mean())
    low, high = scipy.stats.t.interval(
        0.95, len(scores) - 1, loc=scores.mean(), scale=scipy.stats.sem(scores)
    )
    return max(0.0, float(low)), min(100.0, float(high))


if __name__ == "__main__":
    app.run(main)
