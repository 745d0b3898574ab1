"""The speed of fine-tuning's online phase, next to the updates alone and the environment alone.

    python benchmarks/finetune_speed.py --task=antmaze-umaze

Nothing is trained to its end. Each repeat times the environment alone, stepped with random actions
in a plain loop, and then runs ``train_finetune.py`` without evaluations: the updates a second of
its offline phase are the updates alone, the environment steps a second of its online phase are
compared with the smaller of the two, for each of --train_freqs with each of --num_envs in turn.
Only what one repeat timed is compared, and the medians over the repeats are told: a machine's speed
drifts. Run it on a quiet machine.
"""

import collections
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

import commands
import medians
import reports
import runs as bench
from counts import define_counts
from finetune_tasks import TASKS, Task
from iql_jax import cli
from iql_jax.data.load import load_dataset
from iql_jax.envs.description import EnvironmentDescription
from iql_jax.envs.make import make_environment
from iql_jax.outputs.logs import read_table
from iql_jax.training.config import Config

_TASK = flags.DEFINE_enum("task", "antmaze-umaze", list(TASKS), "What to fine-tune on.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "How often to time.", lower_bound=1)
_TRAIN_FREQS = define_counts(
    "train_freqs", ["1", "16"], "The settings of config.train_freq that are timed."
)
_NUM_ENVS = define_counts(
    "num_envs", ["1"], "Environments stepped at once, each timed with each of --train_freqs."
)
_TIMED = flags.DEFINE_integer("timed", 5_000, "Updates, and steps, that are timed.", lower_bound=10)
_OUT = flags.DEFINE_string("out", "", "Markdown file to write the table to.")


def main(_: list[str]) -> None:
    """Time, and tell."""
    reports.publish(time_phases(TASKS[_TASK.value]), _OUT.value)


def time_phases(task: Task) -> str:
    """Time everything in turn; the table in markdown."""
    recipe = load_dataset(Config(dataset=task.dataset, progress=False)).recipe
    assert recipe is not None
    variants = [
        {"num_envs": int(num_envs), "train_freq": int(train_freq)}
        for num_envs in _NUM_ENVS.value
        for train_freq in _TRAIN_FREQS.value
    ]
    rates: dict[str, list[float]] = collections.defaultdict(list)
    rounds = [(repeat, i) for repeat in range(_REPEATS.value) for i in range(len(variants))]
    with tempfile.TemporaryDirectory() as scratch:
        # Both alone are timed beside each, for the machine's speed changes.
        for repeat, i in tqdm(rounds, unit="round"):
            alone = time_environment(recipe)
            updates, steps = time_run(task, Path(scratch) / f"run{repeat}-{i}", variants[i])
            rates["updates"].append(updates)
            rates["environment"].append(alone)
            rates[f"steps {i}"].append(steps)
            rates[f"share {i}"].append(steps / min(updates, alone))
    rows = [
        ["updates alone", medians.spread(rates["updates"], ",.0f")],
        ["the environment alone", medians.spread(rates["environment"], ",.0f")],
    ]
    for i, variant in enumerate(variants):
        settings = ", ".join(f"{key} {number}" for key, number in variant.items())
        name = f"environment steps, one update each, {settings}"
        rows.append([name, medians.spread(rates[f"steps {i}"], ",.0f")])
        rows.append(["share of the smaller of the two", medians.spread(rates[f"share {i}"], ".2f")])
    times = f"{_REPEATS.value}, of both alone {len(rounds)}"
    header = [f"{_TASK.value}, a second", f"median of {times} (lowest to highest)"]
    return f"{reports.markdown(header, rows)}\n"


def time_environment(recipe: EnvironmentDescription) -> float:
    """Steps a second of the bare environment under random actions, resets included."""
    env = make_environment(recipe)
    actions = np.random.default_rng(0).uniform(
        -1, 1, (_TIMED.value, *(env.action_space.shape or ()))
    )
    env.reset(seed=0)
    started = time.perf_counter()
    for action in actions.astype(np.float32):
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    seconds = time.perf_counter() - started
    env.close()
    return len(actions) / seconds


def time_run(task: Task, folder: Path, variant: Mapping[str, int]) -> tuple[float, float]:
    """Updates a second of the offline phase, and environment steps a second of the online one."""
    num_envs = variant["num_envs"]
    interval = -(-_TIMED.value // (5 * num_envs)) * num_envs
    settings = {
        "dataset": task.dataset,
        **variant,
        # The first interval of each phase warms up.
        "log_interval": interval,
        "num_pretraining_steps": 6 * interval,
        **dict.fromkeys(("max_steps", "eval_interval", "checkpoint_interval"), 6 * interval),
        "eval_episodes": 0,
    }
    timed = bench.Run(folder, task.config, settings, "train_finetune.py")
    commands.output_of(timed.command(), "train_finetune.py", bench.ROOT)
    rows = read_table(folder / "metrics.csv")
    updates = [row["updates_per_second"] for row in rows if row["env_steps_per_second"] is None]
    steps = [row["env_steps_per_second"] for row in rows if row["env_steps_per_second"] is not None]
    return statistics.harmonic_mean(updates[1:]), statistics.harmonic_mean(steps[1:])


if __name__ == "__main__":
    cli.run(main)
