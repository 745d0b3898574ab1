"""Seconds and steps per second of whole commands, of one checkout or of several side by side.

    python benchmarks/timings.py
    python benchmarks/timings.py --checkout . --checkout ../before --repeats 5 --out timings.md

The checkouts take turns within each repeat; shown are medians with their range and, against the
first checkout, the median of the ratios within a repeat, for a machine's speed drifts. Measured
are, by the entry points' own commands and what they write:

- start: from the command to the first row of metrics.csv, which is that of the first update;
- evaluation: of --episodes episodes of an untrained policy, which run to their time limit; the
  second of two, and the first, in which processes may start;
- updates: of a run alone;
- online: environment steps with one update each, with 1 and with 16 training environments.

Datasets have to be there before (``python -m iql_jax.datasets``), in the folder and of a kind that
all checkouts read. The share of a finished run's time that each part took is in its summary.json.
"""

import argparse
import collections
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from common import tables
from common.runs import ROOT, Run, environment, finish, read_rows

INTERVALS = 5  # Timed, after a first that warms up.
MEASURES = ("start", "evaluation", "online")


def main() -> int:
    """Times, and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkout", type=Path, action="append", help="by default this one")
    parser.add_argument("--dataset", default="iql/antmaze/umaze-v0", help="(%(default)s)")
    parser.add_argument("--measure", nargs="+", choices=MEASURES, default=MEASURES)
    parser.add_argument("--episodes", type=int, default=100, help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=4_000, help="updates, steps (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="markdown file of the table")
    options = parser.parse_args()
    checkouts = [path.absolute() for path in options.checkout or [ROOT]]
    figures: list[dict[str, list[float]]] = [collections.defaultdict(list) for _ in checkouts]
    with tempfile.TemporaryDirectory() as scratch:
        turns = [
            (repeat, measure, i)
            for repeat in range(options.repeats)
            for measure in options.measure
            for i in range(len(checkouts))
        ]
        for repeat, measure, i in tqdm(turns, unit="timing"):
            folder = Path(scratch) / f"{measure}-{i}-{repeat}"
            for name, number in measured(measure, checkouts[i], folder, options).items():
                figures[i][name].append(number)
    tables.publish(table([str(path) for path in checkouts], figures), options.out)
    return 0


def measured(
    measure: str, checkout: Path, folder: Path, options: argparse.Namespace
) -> dict[str, float]:
    """Returns the numbers of one measurement of one checkout."""
    if measure == "start":
        settings = {"max_steps": 1, "log_interval": 1, "eval_episodes": 0}
        run = Run(folder, "antmaze", {"dataset": options.dataset, **settings})
        return {"seconds from command to first update": seconds_to_first_row(run, checkout)}
    if measure == "evaluation":
        settings = {"max_steps": 2, "eval_interval": 1, "eval_episodes": options.episodes}
        run = Run(folder, "antmaze", {"dataset": options.dataset, **settings})
        finish(run, checkout)
        first, second = (row["eval_seconds"] or 0.0 for row in run.table("evaluations"))
        name = f"seconds of an evaluation of {options.episodes} episodes"
        return {name: second, f"{name}, the first": first}
    found = {}
    for num_envs in (1, 16):
        run = online_run(folder.with_name(f"{folder.name}-{num_envs}"), num_envs, options)
        finish(run, checkout)
        updates, steps = rates(run.table("metrics"))
        found["updates/s alone"] = updates
        found[f"environment steps/s, num_envs={num_envs}"] = steps
    return found


def seconds_to_first_row(run: Run, checkout: Path) -> float:
    """Starts a run, and returns the seconds until its first row of metrics is there."""
    started = time.perf_counter()
    with subprocess.Popen(
        run.command(), cwd=checkout, env=environment(checkout), stderr=subprocess.PIPE, text=True
    ) as process:
        while not read_rows(run.folder / "metrics.csv"):
            if process.poll() not in (None, 0):
                sys.exit(f"{checkout} fails:\n{process.communicate()[1]}")
            time.sleep(0.01)
        seconds = time.perf_counter() - started
        process.communicate()
    return seconds


def online_run(folder: Path, num_envs: int, options: argparse.Namespace) -> Run:
    """Returns a short run of both phases without evaluations."""
    interval = -(-options.steps // (INTERVALS * num_envs)) * num_envs
    budget = (INTERVALS + 1) * interval
    settings = {
        "dataset": options.dataset,
        "num_envs": num_envs,
        "log_interval": interval,
        "eval_episodes": 0,
        **dict.fromkeys(
            ("num_pretraining_steps", "max_steps", "eval_interval", "checkpoint_interval"), budget
        ),
    }
    return Run(folder, "antmaze_finetune", settings)


def rates(rows: Sequence[Mapping[str, float | None]]) -> tuple[float, float]:
    """Returns updates/s offline and environment steps/s online, without either's first interval."""
    online = [row["env_steps_per_second"] for row in rows if row["env_steps_per_second"]]
    offline = [row["updates_per_second"] for row in rows if not row["env_steps_per_second"]]
    return (
        statistics.harmonic_mean([rate for rate in offline[1:] if rate]),
        statistics.harmonic_mean(online[1:]),
    )


def table(names: Sequence[str], figures: Sequence[Mapping[str, Sequence[float]]]) -> str:
    """Returns medians and ranges by checkout, and ratios to the first, in markdown."""
    header = ["", *names, *(f"{name} / {names[0]}" for name in names[1:])]
    rows = [
        [
            measure,
            *(tables.median_range(each[measure]) for each in figures),
            *(tables.ratio(each[measure], figures[0][measure]) for each in figures[1:]),
        ]
        for measure in figures[0]
    ]
    repeats = len(next(iter(figures[0].values())))
    return f"{tables.markdown(header, rows)}\n\nMedians of {repeats} (lowest to highest)."


if __name__ == "__main__":
    sys.exit(main())
