"""Kills a run at random moments, resumes it each time, and compares it with an undisturbed run.

    python benchmarks/kill_resume.py [--kills 20] [--steps 20000]
    python benchmarks/kill_resume.py --phase finetune [--kills 10] [--steps 10000]

Both runs are the entry points' own commands on PointMaze. Kills are SIGKILL, at moments drawn
uniformly over start-up, updates, evaluations and saves. At the end of an offline run, each array of
the last checkpoint must have the same bits, and ``metrics.csv`` and ``evaluations.csv`` the same
rows but for columns of time. Fine-tuning drops the episode under way, which nothing can save; there

- the rows of the first phase are those of the undisturbed run;
- each interval has its row in ``metrics.csv`` and ``evaluations.csv`` once;
- updates, environment steps and logged transitions are as many as the settings say;
- each transition leads to the next but where an episode ended or a kill dropped it, and the rows of
  ``episodes.csv`` are the sums of their transitions.

The exit status is 1 if anything differs.
"""

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from common.runs import ROOT, TIMED, Run, environment, finish, read_rows
from iql_jax.training.load import load_run

LOG, EVALUATE, SAVE = 200, 2_000, 500


def main() -> int:
    """Runs, kills, resumes and compares; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--phase", choices=("offline", "finetune"), default="offline")
    parser.add_argument("--kills", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=20_000, help="of each phase (%(default)s)")
    parser.add_argument("--dataset", default="iql/pointmaze/umaze-v0", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        whole, killed = (make_run(Path(scratch) / name, options) for name in ("whole", "killed"))
        started = time.perf_counter()
        finish(whole)
        session = time.perf_counter() - started
        print(f"undisturbed: {session:.0f} s", flush=True)
        reached: list[int] = []
        for _ in tqdm(range(options.kills), unit="kill"):
            # Short enough, on average, that the last kill comes before the run's end.
            longest = min(2.0 * session / options.kills + 10.0, 0.8 * session)
            kill_after(killed, moments.uniform(0.0, longest))
            if killed.summary() is not None:
                print("it ended before the last kill: raise --steps for more kills")
                break
            reached.append(last_step(killed))
        print(f"killed {len(reached)} times, at steps {reached}")
        finish(killed)
        if options.phase == "offline":
            problems = list(compare_offline(whole, killed))
        else:
            problems = list(check_finetune(whole, killed, options.steps, options.kills))
    print(*problems, "DIFFERENT" if problems else "nothing is lost", sep="\n")
    return 1 if problems else 0


def make_run(folder: Path, options: argparse.Namespace) -> Run:
    """Returns the run that a folder holds."""
    settings: dict[str, Any] = {
        "dataset": options.dataset,
        "max_steps": options.steps,
        "log_interval": LOG,
        "eval_interval": EVALUATE,
        "eval_episodes": 20,
        "checkpoint_interval": SAVE,
    }
    if options.phase == "offline":
        return Run(folder, "pointmaze", settings)
    return Run(folder, "pointmaze_finetune", {**settings, "num_pretraining_steps": options.steps})


def kill_after(run: Run, seconds: float) -> None:
    """Starts or resumes a run and kills it."""
    with subprocess.Popen(
        run.command(), cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=seconds)
        status = process.poll()
        process.kill()
        said = process.communicate()[1]
    if status not in (None, 0):
        sys.exit(f"a session failed before it was killed:\n{said}")


def last_step(run: Run) -> int:
    """Returns the step of the last complete row of ``metrics.csv``."""
    rows = read_rows(run.folder / "metrics.csv")
    return int(next(iter(rows[-1].values()))) if rows else 0


# Offline: the same bits.


def compare_offline(whole: Run, killed: Run) -> Iterator[str]:
    """Yields what differs between two finished runs."""
    for name in ("metrics.csv", "evaluations.csv"):
        tables = [read_rows(run.folder / name, leave_out=TIMED) for run in (whole, killed)]
        if tables[0] != tables[1]:
            yield f"{name} differs"
    expected, actual = final_arrays(whole), final_arrays(killed)
    print(f"{len(expected)} arrays, {sum(array.size for array in expected.values()):,} numbers")
    for name, array in expected.items():
        if array.tobytes() != actual[name].tobytes():
            yield f"{name} differs"


def final_arrays(run: Run) -> dict[str, Any]:
    """Returns each array of the last checkpoint by its place in the state."""
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(load_run(run.folder).state):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        arrays[jax.tree_util.keystr(path)] = array
    return arrays


# Fine-tuning: nothing is lost but open episodes.


def check_finetune(whole: Run, killed: Run, steps: int, kills: int) -> Iterator[str]:
    """Yields what a killed run of as many updates as environment steps lost or has twice."""
    for name, interval in (("metrics", LOG), ("evaluations", EVALUATE)):
        rows = [read_rows(run.folder / f"{name}.csv", leave_out=TIMED) for run in (whole, killed)]
        first = [[row for row in table if int(row["step"]) <= steps] for table in rows]
        if first[0] != first[1]:
            yield f"{name}.csv differs in the first phase"
        phase = [*range(interval, steps, interval), steps]
        expected = [*phase, *(steps + step for step in phase)]
        if (found := [int(row["step"]) for row in rows[1]]) != expected:
            yield f"{name}.csv has rows at {found}"
    summary = killed.summary() or {}
    for key, number in (("updates", 2 * steps), ("env_steps", steps)):
        if summary[key] != number:
            yield f"{key}: {summary[key]}, not {number}"
    yield from log_problems(killed, steps, kills)


def log_problems(run: Run, steps: int, kills: int) -> Iterator[str]:
    """Yields where transitions are missing, or episodes are not made of their transitions."""
    files = sorted((run.folder / "transitions").glob("*.npz"))
    parts = [dict(np.load(file)) for file in files]
    made = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    if (count := len(made["rewards"])) != steps:
        yield f"{count} transitions are logged, not {steps}"
        return
    episodes = [
        {key: float(row[key]) for key in row} for row in read_rows(run.folder / "episodes.csv")
    ]
    leads_on = (made["next_observations"][:-1] == made["observations"][1:]).all(axis=1)
    starts = set((np.flatnonzero(~leads_on) + 1).tolist())  # First transitions of new episodes.
    ends = {int(row["step"]) - steps for row in episodes}
    dropped = starts - ends
    print(f"{len(episodes)} episodes ended, {len(dropped)} were dropped")
    if not ends - {steps} <= starts:
        yield "an episode ended, and its last transition leads to the next episode's first"
    if len(dropped) > kills:
        yield f"{len(dropped)} episodes were dropped by {kills} kills"
    for row in episodes:
        end = int(row["step"]) - steps
        start = end - int(row["length"])
        name = f"episode {row['episode']:.0f}"
        if starts & set(range(start + 1, end)):
            yield f"{name} is not in one piece"
        if not np.isclose(made["rewards"][start:end].sum(), row["return"]):
            yield f"{name} returned {row['return']}, which is not the sum of its rewards"
        masks = np.ones(end - start)
        masks[-1] = 1.0 - row["success"]  # In a maze, success is what terminates.
        if not np.array_equal(made["masks"][start:end], masks):
            yield f"{name} has other masks"


if __name__ == "__main__":
    sys.exit(main())
