"""Folders of runs, as benchmarks find them; and the benchmarks as commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import runs as bench
from iql_jax.generation.generate import generate
from iql_jax.training.config import from_mapping
from iql_jax.training.offline import train_offline

ROOT = Path(__file__).parent.parent


def write_run(folder, scores, updates=400, summary=True, config="antmaze", **settings):
    """A run's folder with evaluations at equal distances, the last at ``updates``.

    Its settings are those of the config file ``config``, but for ``settings``.
    """
    folder.mkdir(parents=True)
    at = [updates * (i + 1) // len(scores) for i in range(len(scores))]
    dataset = {
        "transitions": 1000,
        "choices": {"transitions_at_goal": 25, "positions_in_walls": 0.125},
    }
    file = bench.read_config_file(f"configs/{config}.py")
    record = {"config": {**file, "max_steps": updates, **settings}, "dataset": dataset}
    (folder / "config.json").write_text(json.dumps(record))
    rows = "".join(f"{u},{s}\n" for u, s in zip(at, scores, strict=True))
    (folder / "evaluations.csv").write_text("update,score\n" + rows)
    (folder / "metrics.csv").write_text(f"update,v\n{updates // 2},-9.0\n{updates},-40.0\n")
    if summary:
        ended = {"score": scores[-1], "updates": updates, "eval_episodes": 100}
        (folder / "summary.json").write_text(json.dumps(ended))


def trained_run(folder, dataset, steps, updates):
    """A small run on an embedded dataset of as many steps, which it makes; without evaluations."""
    generate(dataset, steps=steps, progress=False, score_episodes=1)
    settings = {
        "dataset": dataset,
        "hidden_dims": (8,),
        "batch_size": 8,
        "max_steps": updates,
        "eval_episodes": 0,
        "progress": False,
    }
    train_offline(from_mapping(settings), folder)


def a_run(folder, **settings):
    return bench.Run(folder=folder, config="configs/antmaze.py", settings=settings)


SCHEDULE = """
import importlib, json, sys
from absl import flags
benchmark = importlib.import_module(sys.argv[1])
flags.FLAGS(sys.argv[1:])
print(json.dumps([
    [str(run.folder), run.config, dict(run.settings), run.script]
    for run in benchmark.everything()
]))
"""


def schedule(name, *arguments):
    """The runs that a benchmark would start."""
    printed = run_script(SCHEDULE, name, *arguments)
    return [bench.Run(Path(folder), *rest) for folder, *rest in json.loads(printed)]


def run_script(script, *arguments):
    """What a script prints that imports a benchmark: two define the same flags, and need two."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'benchmarks'}:{ROOT}"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def command(name, *arguments):
    return subprocess.run(
        [sys.executable, f"benchmarks/{name}.py", *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def rows(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
