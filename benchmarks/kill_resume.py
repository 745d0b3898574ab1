"""Kills a run at random moments, resumes it each time, and compares it with an undisturbed run.

    python benchmarks/kill_resume.py [--kills 20] [--steps 20000]
    python benchmarks/kill_resume.py --phase finetune --steps 5000 --config.num_envs=2

Both runs are the entry points' own commands on PointMaze: train_offline.py, or train_finetune.py
with both of its phases (``finetune``) or the second alone (``online``). Further arguments are
theirs. At moments drawn over start-up, updates, environment steps, evaluations and saves, they get
SIGKILL or, by chance, SIGTERM. At the end each array of the last checkpoint must have the
same bits, each table the same rows but for columns of time, and fine-tuning the same transitions.
The exit status is 1 if anything differs.
"""

import argparse
import contextlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from common.runs import ROOT, TIMED, Run, environment, finish, read_rows
from iql_jax.training.load import load_run

LOG, EVALUATE, SAVE = 200, 2_000, 500

BEFORE = ("", "compiled the", "compiled the")  # One stop of three may come during the start.


def main() -> int:
    """Runs, kills, resumes and compares; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    phases = ("offline", "finetune", "online")
    parser.add_argument("--phase", choices=phases, default="offline", help="(%(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=20_000, help="of each phase (%(default)s)")
    parser.add_argument("--dataset", default="iql/pointmaze/umaze-v0", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    options, flags = parser.parse_known_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        whole, killed = (
            make_run(Path(scratch) / name, options, flags) for name in ("whole", "killed")
        )
        started = time.perf_counter()
        finish(whole)
        session = time.perf_counter() - started
        print(f"undisturbed: {session:.0f} s", flush=True)
        reached, said = [], ""
        for _ in tqdm(range(options.kills), unit="kill"):
            # Short enough, on average, that the last kill comes before the run's end.
            seconds = moments.uniform(0.0, min(2.0 * session / options.kills, 0.8 * session))
            signum = moments.choice((signal.SIGKILL, signal.SIGTERM))
            said += stop_after(killed, moments.choice(BEFORE), seconds, signum)
            if killed.summary() is not None:
                print("it ended before the last kill: raise --steps for more kills")
                break
            reached.append(f"{last_step(killed):,} {signum.name}")
        print(f"stopped {len(reached)} times, at steps {', '.join(reached)}")
        print(*re.findall("(?:repeated|dropping) .*", said), sep="\n")
        finish(killed)
        problems = list(compare(whole, killed))
    print(*problems, "DIFFERENT" if problems else "nothing is lost", sep="\n")
    return 1 if problems else 0


def make_run(folder: Path, options: argparse.Namespace, flags: Sequence[str]) -> Run:
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
        return Run(folder, "pointmaze", settings, flags)
    settings["num_pretraining_steps"] = options.steps if options.phase == "finetune" else 0
    return Run(folder, "pointmaze_finetune", settings, flags)


def stop_after(run: Run, before: str, seconds: float, signum: signal.Signals) -> str:
    """Starts or resumes a run; sends a signal some time after it said something; returns all."""
    with (
        run.log.open("w") as log,
        subprocess.Popen(run.command(), cwd=ROOT, env=environment(), stderr=log) as process,
    ):
        while before not in run.log.read_text() and process.poll() is None:
            time.sleep(0.05)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
        process.send_signal(signum)
    said = run.log.read_text()
    # Before its handlers are installed, SIGTERM ends it as SIGKILL does.
    if process.returncode not in (0, -signum, 128 + signum):
        sys.exit(f"a session failed before it was stopped:\n{said}")
    return said


def last_step(run: Run) -> int:
    """Returns the step of the last complete row of ``metrics.csv``."""
    rows = read_rows(run.folder / "metrics.csv")
    return int(next(iter(rows[-1].values()))) if rows else 0


def compare(whole: Run, killed: Run) -> Iterator[str]:
    """Yields what differs between two finished runs."""
    for table in sorted(path.name for path in whole.folder.glob("*.csv")):
        tables = [read_rows(run.folder / table, leave_out=TIMED) for run in (whole, killed)]
        print(f"{table}: {len(tables[0])} rows")
        if tables[0] != tables[1]:
            yield f"{table} differs"
    for kind in (final_arrays, transitions):
        expected, actual = kind(whole), kind(killed)
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


def transitions(run: Run) -> dict[str, Any]:
    """Returns each field of the transitions that a run's environments made, if any."""
    parts = [dict(np.load(file)) for file in sorted((run.folder / "transitions").glob("*.npz"))]
    return {key: np.concatenate([part[key] for part in parts]) for key in (parts or [{}])[0]}


if __name__ == "__main__":
    sys.exit(main())
