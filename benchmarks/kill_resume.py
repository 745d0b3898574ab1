"""Kill a run at random moments, resume it each time, and compare its end with an undisturbed run's.

    python benchmarks/kill_resume.py [--kills=20] [--updates=20000]

Both runs are ``train_offline.py --config=configs/pointmaze.py`` in processes of their own. Kills
are SIGKILL, at moments drawn uniformly over a session's start-up, updates, evaluations and saves.
At the end every array of the final checkpoint must be the same bits, and ``metrics.csv`` and
``evaluations.csv`` the same rows but for the columns of time. The exit status is 1 if they differ.
"""

import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

import sessions
from iql_jax import cli
from iql_jax.training.trained import load_run

_KILLS = flags.DEFINE_integer("kills", 20, "How often to kill.", lower_bound=1)
_UPDATES = flags.DEFINE_integer("updates", 20_000, "Updates of the run.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")


def main(_: list[str]) -> None:
    """Run both, and compare."""
    with tempfile.TemporaryDirectory() as scratch:
        whole, killed = Path(scratch) / "whole", Path(scratch) / "killed"
        started = time.perf_counter()
        sessions.finish(command(whole))
        session = time.perf_counter() - started
        print(f"undisturbed: {session:.0f} s", flush=True)

        moments = random.Random(_SEED.value)
        reached = []
        for _ in tqdm(range(_KILLS.value), unit="kill"):
            # Short enough, on average, that the last kill comes before the run's end.
            seconds = moments.uniform(0.0, 2.0 * session / _KILLS.value + 10.0)
            sessions.kill_after(command(killed), seconds)
            reached.append(last_update(killed))
            if (killed / "summary.json").exists():
                sys.exit("the run ended before the last kill: raise --updates")
        print(f"killed {_KILLS.value} times; updates logged by then: {reached}")
        sessions.finish(command(killed))
        differences = [*compare_states(whole, killed), *compare_tables(whole, killed)]
    for difference in differences:
        print(difference)
    print("identical" if not differences else "DIFFERENT")
    sys.exit(1 if differences else 0)


def command(folder: Path) -> list[str]:
    """What starts, or resumes, the run."""
    return [
        "train_offline.py",
        "--config=configs/pointmaze.py",
        f"--workdir={folder}",
        f"--config.max_steps={_UPDATES.value}",
        "--config.log_interval=300",
        "--config.eval_interval=2000",
        "--config.eval_episodes=20",
        "--config.checkpoint_interval=500",
        "--config.progress=False",
    ]


def last_update(folder: Path) -> int:
    """The update count of the last complete row of metrics.csv."""
    rows = sessions.read_rows(folder / "metrics.csv")
    return int(rows[-1]["update"]) if rows else 0


def compare_tables(whole: Path, killed: Path) -> list[str]:
    """What differs between the two runs' tables."""
    return [
        f"{name} differs"
        for name in ("metrics.csv", "evaluations.csv")
        if sessions.read_rows(whole / name) != sessions.read_rows(killed / name)
    ]


def final_arrays(folder: Path) -> dict[str, Any]:
    """Every array of the final checkpoint by its place in the state."""
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(load_run(folder).state):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        arrays[jax.tree_util.keystr(path)] = np.asarray(
            jax.random.key_data(leaf) if is_key else leaf
        )
    return arrays


def compare_states(whole: Path, killed: Path) -> list[str]:
    """The arrays that are not the same bits."""
    expected, actual = final_arrays(whole), final_arrays(killed)
    print(f"{len(expected)} arrays, {sum(a.size for a in expected.values()):,} numbers")
    return [
        f"{name} differs" for name in expected if expected[name].tobytes() != actual[name].tobytes()
    ]


if __name__ == "__main__":
    cli.run(main)
