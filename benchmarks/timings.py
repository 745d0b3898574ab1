"""Where the time goes: of a start (loading, compiling, an evaluation), and of a whole run.

    python benchmarks/timings.py [--repeats=3]
    python benchmarks/timings.py --run=runs/antmaze

Runs ``train_offline.py --config=configs/pointmaze.py`` for one update in fresh processes: with the
flat cache empty, with the cache filled, and with an evaluation of 100 episodes of an untrained
policy, nearly all of which run to the time limit. Prints the medians as a markdown table.

With --run it starts nothing, and tells from the summary of a finished run what its wall time was
spent on.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from absl import flags
from tqdm import tqdm

import commands
import reports
import runs as bench
from iql_jax import cli
from iql_jax.generation.provide import provide

_DATASET = flags.DEFINE_string("dataset", "iql/pointmaze/medium-v0", "The dataset to load.")
_RUN = flags.DEFINE_string("run", "", "Folder of a finished run whose wall time to tell apart.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Runs of each.", lower_bound=1)


def main(_: list[str]) -> None:
    """Print the one table or the other."""
    if _RUN.value:
        print(wall_time(Path(_RUN.value)))
    else:
        print(starts())


def wall_time(folder: Path) -> str:
    """What a finished run spent its time on, a markdown table."""
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except FileNotFoundError:
        sys.exit(f"{folder} has no summary.json: it is not the folder of a finished run")
    spent = {
        "updates": summary["training_seconds"],
        "evaluations": summary["eval_seconds"],
        # What compiled nothing has no time for it: a run that began with the online phase, or whose
        # command was given again after its end.
        "loading and compiling": summary["load_seconds"] + summary.get("compile_seconds", 0.0),
    }
    wall = summary["wall_seconds"]
    # The clock runs from after the imports to the last checkpoint; pictures come after it.
    spent["logging, saving"] = wall - sum(spent.values())
    spent["all"] = wall
    header = [f"{summary['dataset']['id']}, {summary['updates']:,} updates", "seconds", "share"]
    return reports.markdown(
        header, [[name, f"{s:,.1f}", f"{100 * s / wall:.1f} %"] for name, s in spent.items()]
    )


def starts() -> str:
    """Time the three kinds of start, a markdown table."""
    figures: dict[str, list[float]] = {}
    provide(_DATASET.value)  # To generate a dataset is no part of loading it.
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in tqdm(range(_REPEATS.value), unit="repeat"):
            caches = {**os.environ, "IQL_JAX_CACHE": f"{scratch}/cache{repeat}"}
            for kind, episodes in (("first", 0), ("cached", 0), ("evaluated", 100)):
                folder = Path(scratch) / f"{kind}{repeat}"
                wall = start(folder, episodes, caches)
                summary = json.loads((folder / "summary.json").read_text())
                for name in ("load_seconds", "compile_seconds", "eval_seconds"):
                    figures.setdefault(f"{kind} {name}", []).append(summary[name])
                figures.setdefault(f"{kind} wall", []).append(wall)
    medians = {name: statistics.median(seconds) for name, seconds in figures.items()}
    rows = [
        ("loading the dataset, first time", medians["first load_seconds"]),
        ("loading the dataset, from the cache", medians["cached load_seconds"]),
        ("compiling the update", medians["cached compile_seconds"]),
        ("command to the end of a one-update run, second start", medians["cached wall"]),
        ("evaluation, 100 episodes of full length", medians["evaluated eval_seconds"]),
    ]
    header = [f"{_DATASET.value}, {os.cpu_count()} cores", "seconds"]
    return reports.markdown(header, [[name, f"{seconds:.1f}"] for name, seconds in rows])


def start(folder: Path, episodes: int, environment: dict[str, str]) -> float:
    """Run one update; the seconds from command to exit."""
    command = [
        sys.executable,
        "train_offline.py",
        "--config=configs/pointmaze.py",
        f"--workdir={folder}",
        f"--config.dataset={_DATASET.value}",
        "--config.max_steps=1",
        f"--config.eval_episodes={episodes}",
        "--config.progress=False",
    ]
    began = time.perf_counter()
    commands.output_of(command, "train_offline.py", bench.ROOT, environment)
    return time.perf_counter() - began


if __name__ == "__main__":
    cli.run(main)
