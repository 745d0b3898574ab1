"""Kill a fine-tuning run at random moments of both phases, and look for what got lost.

    python benchmarks/kill_resume_finetune.py [--kills=10] [--updates=10000] [--steps=10000]

The run is ``train_finetune.py --config=configs/pointmaze_finetune.py`` in processes of its own; an
undisturbed one says how long the phases take. Kills are SIGKILL: as many in each phase, at moments
drawn uniformly over it, and some within a session's start-up. An environment's state cannot be
saved, so the second phase does not end with the same bits. Instead everything that a run leaves is
held against everything else:

- each session goes on where the newest checkpoint is, and says which episodes it drops;
- the first phase's rows are those of the undisturbed run;
- every interval has its row in ``metrics.csv`` and ``evaluations.csv``, and has it once;
- updates, environment steps and ended episodes are as many as the settings say and the tables have;
- the logged transitions are as many as the environment steps, each leads to the next but where an
  episode ended or was dropped, and each row of ``episodes.csv`` is the sum of its transitions.

The exit status is 1 if anything does not agree.
"""

import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

import sessions
from iql_jax import cli
from iql_jax.algorithm.types import Transitions
from iql_jax.data.load import load_dataset
from iql_jax.outputs.checkpoints import read_newest
from iql_jax.outputs.folder import read_record
from iql_jax.outputs.logs import Row, read_table
from iql_jax.outputs.transitions import TransitionLog
from iql_jax.training.config import from_record
from iql_jax.training.run import initial_state

LOG_INTERVAL, EVAL_INTERVAL, CHECKPOINT_INTERVAL = 200, 2_000, 500
STARTUP_SHARE = 0.2  # Of the kills.
TABLES = ("metrics.csv", "evaluations.csv")

_KILLS = flags.DEFINE_integer("kills", 10, "How often to kill.", lower_bound=1)
_UPDATES = flags.DEFINE_integer("updates", 10_000, "Updates of the first phase.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 10_000, "Environment steps of the second.", lower_bound=1)
_DATASET = flags.DEFINE_string("dataset", "iql/pointmaze/umaze-v0", "What it is trained on.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")


def main(_: list[str]) -> None:
    """Run, kill, resume, and compare."""
    with tempfile.TemporaryDirectory() as scratch:
        whole, killed = Path(scratch) / "whole", Path(scratch) / "killed"
        started = time.perf_counter()
        sessions.finish(command(whole))
        print(f"undisturbed: {time.perf_counter() - started:.0f} s", flush=True)
        problems = kill_and_resume(killed)
        problems += differences_before_the_boundary(whole, killed)
        problems += disagreements(killed)
    for problem in problems:
        print(problem)
    print("DIFFERENT" if problems else "nothing is lost but open episodes")
    sys.exit(1 if problems else 0)


def command(folder: Path) -> list[str]:
    """What starts, or resumes, the run."""
    return [
        "train_finetune.py",
        "--config=configs/pointmaze_finetune.py",
        f"--workdir={folder}",
        f"--config.dataset={_DATASET.value}",
        f"--config.num_pretraining_steps={_UPDATES.value}",
        f"--config.max_steps={_STEPS.value}",
        f"--config.log_interval={LOG_INTERVAL}",
        f"--config.eval_interval={EVAL_INTERVAL}",
        "--config.eval_episodes=20",
        f"--config.checkpoint_interval={CHECKPOINT_INTERVAL}",
        "--config.progress=False",
    ]


# Killing.


def kill_and_resume(folder: Path) -> list[str]:
    """Kill again and again, then let the run end; what is wrong with how its sessions began."""
    moments = random.Random(_SEED.value)
    end = _UPDATES.value + _STEPS.value
    # One in each part of the run of equal length, at any moment of it.
    targets = [end * (i + moments.random()) / _KILLS.value for i in range(_KILLS.value)]
    problems, killed_at = [], []
    for target in tqdm(targets, unit="kill"):
        saved = saved_progress(folder)
        if moments.random() < STARTUP_SHARE:
            said = sessions.kill_after(command(folder), moments.uniform(0.0, 10.0))
        else:
            said = kill_at(folder, target, moments.random())
        problems += wrong_beginning(said, saved)
        killed_at.append(last_step(folder))
        if (folder / "summary.json").exists():
            sys.exit("the run ended before the last kill: raise --updates and --steps")
    saved = saved_progress(folder)
    problems += wrong_beginning(sessions.finish(command(folder)), saved, ended=True)
    online = sum(step > _UPDATES.value for step in killed_at)
    print(f"killed {len(killed_at)} times, {online} of them after the boundary; steps: {killed_at}")
    return problems


def kill_at(folder: Path, target: float, seconds: float) -> str:
    """Start the run and kill it some time after it has logged a step; what it said until then."""
    with sessions.start(command(folder)) as process:
        while process.poll() is None and last_step(folder) < target:
            time.sleep(0.05)
        time.sleep(seconds)
        return sessions.kill(process)


def last_step(folder: Path) -> int:
    """The step of the last complete row of metrics.csv."""
    rows = read_table(folder / "metrics.csv")
    return int(rows[-1]["step"]) if rows else 0


def saved_progress(folder: Path) -> dict[str, Any] | None:
    """The progress of the newest checkpoint; None before the first."""
    if not (folder / "checkpoints").is_dir():
        return None
    settings = from_record(read_record(folder)["config"])
    template = initial_state(settings, load_dataset(settings))
    restored = read_newest(folder / "checkpoints", template)
    return None if restored is None else restored[1]


def wrong_beginning(said: str, saved: dict[str, Any] | None, ended: bool = False) -> list[str]:
    """Whether a session said that it goes on where the checkpoint is, if it came so far."""
    problems = []
    resumed = re.search(r"resuming .* at step ([0-9,]+)", said)
    if resumed is not None:
        step = int(resumed[1].replace(",", ""))
        if saved is None or step != saved["step"]:
            problems.append(f"a session resumed at {step}, the checkpoint was {saved}")
    elif ended and saved is not None:
        problems.append("the last session did not resume")
    made = 0 if saved is None else saved["extra"]["counters"]["env_steps"]
    dropped = "dropping 1 unfinished training episode" in said
    # It says so once the loop comes to the second phase, which a kill may prevent.
    if (dropped and not made) or (ended and dropped != (0 < made < _STEPS.value)):
        problems.append(f"after {made} environment steps: dropping {dropped}")
    return problems


# Comparing.


def differences_before_the_boundary(whole: Path, killed: Path) -> list[str]:
    """What differs in the tables of the first phase, which is repeated exactly."""

    def rows(folder: Path, table: str) -> list[dict[str, str]]:
        read = sessions.read_rows(folder / table)
        return [row for row in read if int(row["step"]) <= _UPDATES.value]

    return [f"{table} differs" for table in TABLES if rows(whole, table) != rows(killed, table)]


def disagreements(folder: Path) -> list[str]:
    """Where what a finished run left does not agree with the settings or with itself."""
    return [*table_problems(folder), *count_problems(folder), *log_problems(folder)]


def expected_steps(interval: int) -> list[int]:
    """The steps at which something is due: at its interval in each phase and at each one's end."""
    first = [*range(interval, _UPDATES.value, interval), _UPDATES.value]
    second = [*range(interval, _STEPS.value, interval), _STEPS.value]
    return first + [_UPDATES.value + step for step in second]


def table_problems(folder: Path) -> Iterator[str]:
    """Rows that are missing, or there twice."""
    for table, interval in zip(TABLES, (LOG_INTERVAL, EVAL_INTERVAL), strict=True):
        steps = [int(row["step"]) for row in read_table(folder / table)]
        if steps != expected_steps(interval):
            yield f"{table} has rows at {steps}"
    episodes = read_table(folder / "episodes.csv")
    for column in ("step", "episode"):
        numbers = [row[column] for row in episodes]
        if numbers != sorted(set(numbers)):
            yield f"episodes.csv: {column} does not rise: {numbers}"


def count_problems(folder: Path) -> Iterator[str]:
    """Counters that are not what the settings say, or what the tables hold."""
    progress = saved_progress(folder)
    assert progress is not None
    counters = progress["extra"]["counters"]
    summary = json.loads((folder / "summary.json").read_text())
    episodes = read_table(folder / "episodes.csv")
    end = _UPDATES.value + _STEPS.value
    for name, number, expected in (
        ("step", progress["step"], end),
        ("updates", progress["updates"], end),
        ("updates in the summary", summary["updates"], end),
        ("environment steps", counters["env_steps"], _STEPS.value),
        ("saved transitions", progress["extra"]["transitions"], _STEPS.value),
        ("ended episodes", counters["episodes_ended"], len(episodes)),
        ("successes", counters["successes"], sum(row["success"] for row in episodes)),
    ):
        if number != expected:
            yield f"{name}: {number}, not {expected}"


def log_problems(folder: Path) -> Iterator[str]:
    """Transitions that are missing, do not follow each other, or do not make up their episodes."""
    log = TransitionLog(folder / "transitions")
    log.restore(_STEPS.value)
    made: Transitions = jax.tree.map(
        lambda *parts: np.concatenate(parts), *(Transitions(**made) for made in log.read())
    )
    if made.size != _STEPS.value:
        yield f"{made.size} transitions are logged, not {_STEPS.value}"
    episodes = read_table(folder / "episodes.csv")
    leads_on = (made.next_observations[:-1] == made.observations[1:]).all(axis=1)
    cuts = set((np.flatnonzero(~leads_on) + 1).tolist())  # A new episode's first transition.
    ends = {int(row["step"]) - _UPDATES.value for row in episodes}
    dropped = cuts - ends
    print(f"{len(episodes)} episodes ended, {len(dropped)} were dropped")
    if not ends - {_STEPS.value} <= cuts:
        yield "an episode ended and its last transition leads on to the next episode's first"
    if len(dropped) > _KILLS.value:
        yield f"{len(dropped)} episodes were dropped by {_KILLS.value} kills"
    for row in episodes:
        yield from episode_problems(row, made, cuts)


def episode_problems(row: Row, made: Transitions, cuts: set[int]) -> Iterator[str]:
    """Where a row of episodes.csv is not the sum of its transitions."""
    end = int(row["step"]) - _UPDATES.value
    begin = end - int(row["length"])
    if cuts & set(range(begin + 1, end)):
        yield f"episode {row['episode']:.0f} is not in one piece"
    if not np.isclose(made.rewards[begin:end].sum(), row["return"]):
        yield f"episode {row['episode']:.0f} returned {row['return']}, by its rewards another"
    masks = np.ones(end - begin)
    masks[-1] = 1.0 - row["success"]  # In a maze, success is what terminates.
    if not np.array_equal(made.masks[begin:end], masks):
        yield f"episode {row['episode']:.0f} has other masks"


if __name__ == "__main__":
    cli.run(main)
