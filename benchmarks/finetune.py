"""Fine-tuning on the embedded mazes: success before and after, and the speed of the online phase.

    python benchmarks/finetune.py --task=pointmaze-medium --jobs=2 --picture=curve.png
    python benchmarks/finetune.py --task=antmaze-umaze \
        --offline_runs='runs/antmaze_benchmark/iql-umaze-seed{seed}' --steps=300000
    python benchmarks/finetune.py --task=antmaze-umaze --speed

Each run is ``train_finetune.py`` with the task's config, in a process and a folder of its own. With
--offline_runs it goes on from the finished offline run that the pattern names for its seed,
otherwise it trains offline itself. Finished runs are not repeated and interrupted ones go on;
--only_report runs nothing. The table (markdown) and the mean curve show what is finished.

--speed trains nothing to its end. Each repeat times the environment alone, stepped with random
actions in a plain loop, and then runs ``train_finetune.py`` without evaluations: the updates a
second of its offline phase are the updates alone, the environment steps a second of its online
phase are compared with the smaller of the two, for each of --train_freqs with each of --num_envs in
turn. Only what one repeat timed is compared, and the medians over the repeats are told: a machine's
speed drifts. Run it on a quiet machine.

The numbers beside ours (``published.py``) are on D4RL's data, which other ants walked, at 1M
offline updates and 1M environment steps.
"""

import collections
import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

import curves
import medians
import published
import reports
import runs as bench
from iql_jax import cli
from iql_jax.config import Config
from iql_jax.data.load import load_dataset
from iql_jax.environments import EnvironmentRecipe, make_environment
from iql_jax.errors import UserError
from iql_jax.metrics import Row, read_table


@dataclasses.dataclass(frozen=True)
class Task:
    """What is fine-tuned on.

    Attributes:
        config: the config file, relative to the repository.
        dataset: the dataset's id.
        target: the success (%) that is hoped for.
    """

    config: str
    dataset: str
    target: float


ANTMAZE = "configs/antmaze_finetune.py"
TASKS = {
    "pointmaze-medium": Task("configs/pointmaze_finetune.py", "iql/pointmaze/medium-v0", 99.0),
    "antmaze-umaze": Task(ANTMAZE, "iql/antmaze/umaze-v0", 96.0),
    "antmaze-medium-play": Task(ANTMAZE, "iql/antmaze/medium-play-v0", 95.0),
}

# The report has rows for what these settings come to.
_TOLD = ("max_steps", "num_pretraining_steps", "offline_run")

_FLAGS = bench.define_flags("runs/finetune_benchmark")
_TASK = flags.DEFINE_enum("task", "pointmaze-medium", list(TASKS), "What to fine-tune on.")
_OFFLINE_RUNS = flags.DEFINE_string(
    "offline_runs", "", "Folders of finished offline runs to go on from; {seed} is the seed's."
)
_UPDATES = flags.DEFINE_integer("updates", None, "Offline updates; by default the config's.")
_STEPS = flags.DEFINE_integer("steps", None, "Environment steps; by default the config's.")
_EVAL_INTERVAL = flags.DEFINE_integer("eval_interval", None, "By default the config's.")
_EVAL_EPISODES = flags.DEFINE_integer(
    "eval_episodes", None, "By default the config's.", lower_bound=1
)
_CHECKPOINT_INTERVAL = flags.DEFINE_integer("checkpoint_interval", None, "By default the config's.")
_DECAY = flags.DEFINE_enum(
    "opt_decay_schedule", None, ["none", "cosine"], "Of the actor's learning rate; by default none."
)
_OFFLINE_RATIO = flags.DEFINE_float(
    "offline_ratio", None, "The dataset's share of every batch; by default the config's."
)
_LAYER_NORM = flags.DEFINE_boolean(
    "layer_norm", None, "In V and the critics, of the offline runs too; by default the config's."
)
_PICTURE = flags.DEFINE_string("picture", "", "PNG file to draw the mean curve to.")
_SPEED = flags.DEFINE_boolean("speed", False, "Time the online phase, and nothing else.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "How often to time.", lower_bound=1)
_TRAIN_FREQS = flags.DEFINE_list(
    "train_freqs", ["1", "16"], "With --speed: the settings of config.train_freq that are timed."
)
_NUM_ENVS = flags.DEFINE_list(
    "num_envs",
    ["1"],
    "Training environments stepped at once; with --speed all that are timed, each with each "
    "train_freq.",
)
_TIMED = flags.DEFINE_integer("timed", 5_000, "Updates, and steps, that are timed.", lower_bound=10)


def are_counts(words: Sequence[str]) -> bool:
    """Whether a flag's list holds positive whole numbers, at least one."""
    return bool(words) and all(word.isdecimal() and int(word) > 0 for word in words)


flags.register_multi_flags_validator(
    ["num_envs", "speed"],
    lambda given: are_counts(given["num_envs"]) and (given["speed"] or len(given["num_envs"]) == 1),
    "--num_envs is one positive number, or with --speed several with commas between them",
)
flags.register_validator(
    "train_freqs", are_counts, "--train_freqs are positive numbers with commas between them"
)


def main(_: list[str]) -> None:
    """Run what is missing and report what is there, or time."""
    task = TASKS[_TASK.value]
    if _SPEED.value:
        reports.publish(time_phases(task), _FLAGS.out.value)
        return
    failed = [] if _FLAGS.only_report.value else bench.run_all(everything(), _FLAGS.jobs.value)
    if finished := [run for run in everything() if run.summary() is not None]:
        reports.publish(report(task, finished), _FLAGS.out.value)
        if _PICTURE.value:
            curves.draw(Path(_PICTURE.value), [panel(finished)], "IQL")
    bench.finish(failed)


class FinetuneRun(bench.Run):
    """A run of ``train_finetune.py``."""

    def evaluations(self) -> list[Row]:
        """Of both phases, also where the first is another run's."""
        settings = self.record()["config"]
        before: list[Row] = []
        if settings["offline_run"]:
            # The last of them is done once more at the beginning of the second phase.
            before = read_table(Path(settings["offline_run"]) / "evaluations.csv")[:-1]
        return [*before, *super().evaluations()]


def everything() -> list[FinetuneRun]:
    """All runs, in the order in which they start."""
    return [run(TASKS[_TASK.value], seed) for seed in range(_FLAGS.seeds.value)]


def run(task: Task, seed: int) -> FinetuneRun:
    """One agent's training."""
    given = {
        "num_pretraining_steps": _UPDATES.value,
        "max_steps": _STEPS.value,
        "eval_interval": _EVAL_INTERVAL.value,
        "eval_episodes": _EVAL_EPISODES.value,
        "checkpoint_interval": _CHECKPOINT_INTERVAL.value,
        "opt_decay_schedule": _DECAY.value,
        "offline_ratio": _OFFLINE_RATIO.value,
        "layer_norm": _LAYER_NORM.value,
    }
    settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if _OFFLINE_RUNS.value:
        folder = _OFFLINE_RUNS.value.replace("{seed}", str(seed))
        settings["offline_run"] = str(Path(folder).absolute())
    return FinetuneRun(
        folder=Path(_FLAGS.runs.value) / f"{_TASK.value}-seed{seed}",
        config=task.config,
        settings={
            "dataset": task.dataset,
            "seed": seed,
            "num_envs": int(_NUM_ENVS.value[0]),
            **settings,
        },
        script="train_finetune.py",
    )


# Success.


def report(task: Task, finished: Sequence[bench.Run]) -> str:
    """Success before and after fine-tuning, in markdown."""
    summaries, shown = reports.summaries(finished), panel(finished)
    before, after = numbers(summaries, "offline_score"), reports.scores(finished)
    best = int(np.argmax(shown.scores.mean(axis=0)))
    settings = [run.record()["config"] for run in finished]
    timed = ", online phase only" if any(one["offline_run"] for one in settings) else ""
    rows = [
        ["offline updates", f"{shown.boundary or 0:,}"],
        [
            "success after them (%), mean ± std",
            f"{reports.mean_std(before)} ({reports.each(before)})",
        ],
        ["environment steps", reports.counts(finished, "env_steps")],
        [
            "success after them (%), mean ± std",
            f"{reports.mean_std(after)} ({reports.each(after)})",
        ],
        ["95 % interval", reports.interval_text(after)],
        ["best mean, and where", f"{shown.scores.mean(axis=0)[best]:.1f} {where(shown, best)}"],
        [f"mean of {task.target:g} % or more from", reached(task, shown)],
        ["regret of the evaluations", f"{numbers(summaries, 'regret').mean():.3f}"],
        [
            f"minutes of the slowest run{timed}",
            f"{numbers(summaries, 'wall_seconds').max() / 60:.1f}",
        ],
    ]
    rows += [
        [f"{name}, D4RL's data", f"{first:g} -> {last:g}"]
        for name, (first, last) in elsewhere().items()
    ]
    header = [_TASK.value, f"seeds {', '.join(str(one['seed']) for one in settings)}"]
    return (
        f"{reports.markdown(header, rows)}\n\n"
        f"Success of {reports.episodes(finished)} evaluation episodes a seed. "
        f"{reports.other_settings(finished, told=_TOLD)}"
        f"{reports.INTERVAL_NOTE} "
        "Regret: the mean of 1 - success over the evaluations of the second phase (CORL's is over "
        "the training episodes).\n"
    )


def numbers(summaries: Sequence[dict[str, Any]], name: str) -> reports.FloatArray:
    """One entry of all summaries, [K]."""
    return np.array([summary[name] for summary in summaries], dtype=np.float64)


def elsewhere() -> dict[str, published.Change]:
    """Success before and after fine-tuning on the task, by who reports it."""
    tables = {"paper": published.PAPER_ONLINE, "CORL": published.CORL_ONLINE}
    return {name: table[_TASK.value] for name, table in tables.items() if _TASK.value in table}


def panel(finished: Sequence[bench.Run]) -> curves.Panel:
    """The curve of the finished runs.

    Raises:
        UserError: If they went on from offline runs of several lengths.
    """
    boundaries = {run.folder: bench.boundary(run.record()["config"]) for run in finished}
    if len(set(boundaries.values())) > 1:
        listed = ", ".join(f"{folder.name}: {updates:,}" for folder, updates in boundaries.items())
        raise UserError(
            f"the runs went on from offline runs of several lengths ({listed} updates), so that "
            "their steps are not the same: give --offline_runs of one length"
        )
    steps, scores = curves.curve(finished)
    return curves.Panel(
        title=_TASK.value,
        steps=steps,
        scores=scores,
        dotted=[(f"{name}: {last:g} % (D4RL)", last) for name, (_, last) in elsewhere().items()],
        boundary=boundaries[finished[0].folder],
    )


def where(shown: curves.Panel, index: int) -> str:
    """The place of an evaluation in the two phases."""
    step, boundary = int(shown.steps[index]), shown.boundary or 0
    if step <= boundary:
        return f"after {step:,} offline updates"
    return f"after {step - boundary:,} environment steps"


def reached(task: Task, shown: curves.Panel) -> str:
    """From which evaluation on the seeds' mean stays at the target."""
    below = np.flatnonzero(shown.scores.mean(axis=0) < task.target)
    first = 0 if not len(below) else int(below[-1]) + 1
    return where(shown, first) if first < len(shown.steps) else "never"


# Speed.


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


def time_environment(recipe: EnvironmentRecipe) -> float:
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
    timed = FinetuneRun(folder, task.config, settings, "train_finetune.py")
    process = subprocess.run(
        timed.command(), cwd=bench.ROOT, capture_output=True, text=True, check=False
    )
    if process.returncode != 0:
        sys.exit(f"train_finetune.py failed:\n{process.stderr}")
    rows = read_table(folder / "metrics.csv")
    updates = [row["updates_per_second"] for row in rows if row["env_steps_per_second"] is None]
    steps = [row["env_steps_per_second"] for row in rows if row["env_steps_per_second"] is not None]
    return statistics.harmonic_mean(updates[1:]), statistics.harmonic_mean(steps[1:])


if __name__ == "__main__":
    cli.run(main)
