"""Runs the commands of README.md and docs/, cut short, in a copy of this checkout.

    python tests/run_docs.py

Datasets are small, files among them, and runs make few updates. Each page starts with the runs of
the README's commands. What needs other software is in ``SKIPPED``, with the reason.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from data.test_d4rl_mazes import ant_arrays
from data_files import HOPPER, d4rl_arrays, ogbench_arrays, write_hdf5
from test_docs import PAGES, ROOT, commands_of

from iql_jax.generation.catalog import GENERATED
from iql_jax.generation.generate import generate

SKIPPED = {
    "train_ant_controller.py": "it needs the extra 'collect', which is PyTorch's size",
    "distill_ant_controller.py": "it needs what train_ant_controller.py writes",
    "parity.py": ".ci/run runs it",
    "fuzz.py": ".ci/run runs it",
}

TRAIN = [
    "--config.max_steps=32",
    "--config.eval_interval=32",
    "--config.eval_episodes=1",
    "--config.progress=False",
    "--config.dataset_fallback=generate",
]
SHORTER = {
    "train_offline.py": TRAIN,
    "train_finetune.py": [*TRAIN, "--config.num_pretraining_steps=32"],
    "evaluate.py": ["--episodes=1"],
    "evaluate_ant_controller.py": ["--episodes=1"],
    "kill_resume.py": ["--kills", "2", "--steps", "600"],
    "timings.py": ["--episodes", "1", "--steps", "20", "--repeats", "1"],
    "throughput.py": ["--repeats", "1", "--updates", "5"],
    "figure2.py": ["--updates", "20"],
}


GOALS = {"umaze": (0.3, 8.5), "medium": (20.7, 20.8), "large": (32.5, 24.8)}  # In D4RL's frame.
PLACES = {
    "RUN": "runs/antmaze",
    "FOLDER": ".",
    "FILE": "iql/pointmaze/umaze-v0",
    "DIR": "pictures",
}


def main() -> int:
    """Runs all; returns 1 if a command failed."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name, "checkout")
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "runs", "site"))
        os.environ |= {"PYTHONPATH": str(copy), "MINARI_DATASETS_PATH": f"{name}/datasets"}
        for dataset in GENERATED:
            generate(dataset, 2_000, progress=False)
        write_files(copy)
        failed = []
        for page in PAGES:
            for words in commands_of(page):
                if not run(words, copy):
                    failed.append(f"{page.name}: {' '.join(words)}")
            if page.name == "README.md":
                shutil.copytree(copy / "runs", copy / "readme_runs")
            shutil.rmtree(copy / "runs", ignore_errors=True)
            shutil.copytree(copy / "readme_runs", copy / "runs")
    print(*failed, f"{len(failed)} commands failed", sep="\n")
    return 1 if failed else 0


def write_files(folder: Path) -> None:
    """Writes the files that the pages name, with random numbers."""
    write_hdf5(folder / HOPPER, d4rl_arrays())
    np.savez_compressed(folder / "antmaze-medium-navigate-v0.npz", **ogbench_arrays())
    for task, goal in GOALS.items():
        for data in (
            ("umaze", "umaze-diverse") if task == "umaze" else (f"{task}-play", f"{task}-diverse")
        ):
            write_hdf5(folder / f"antmaze-{data}-v2.hdf5", ant_arrays(goal))
    write_hdf5(folder / "kitchen_complete-v0.hdf5", d4rl_arrays(3_680, 60, 9))


def scores(words: list[str]) -> list[str]:
    """Returns what shortens a command of scores.py."""
    if "--run" not in words:
        return ["--episodes=1"] if "--episodes" in words else []
    settings = ["eval_interval=32", "eval_episodes=1"]
    if "finetune_pointmaze" in words:
        settings.append("num_pretraining_steps=32")
    seeds = [] if "--seeds" in words else ["--seeds", "0"]
    return [*seeds, "--updates", "32", "--set", *settings]


def run(words: list[str], folder: Path) -> bool:
    """Runs a command in a folder; returns whether it succeeded, and prints what it said if not."""
    script = Path(words[2].replace(".", "/") + ".py" if words[1] == "-m" else words[1]).name
    print("+", *words, flush=True)
    if script in SKIPPED:
        print(f"  not run: {SKIPPED[script]}")
        return True
    places = "|".join(PLACES)
    words = [re.sub(rf"\b({places})$", lambda found: PLACES[found[0]], word) for word in words]
    words[0] = sys.executable
    if script == "scores.py":
        words += scores(words) + ([] if "--list" in words else ["--runs", "runs/scores"])
    elif script == "export.py" and len(words) == 3:
        words += ["--help"]
    else:
        words += SHORTER.get(script, [])
    done = subprocess.run(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        print(done.stdout[-2_000:])
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
