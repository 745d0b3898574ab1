"""Fine-tuning on the embedded mazes: success before and after.

    python benchmarks/finetune.py --task=pointmaze-medium --jobs=2 --picture=curve.png
    python benchmarks/finetune.py --task=antmaze-umaze \
        --offline_runs='runs/antmaze_benchmark/iql-umaze-seed{seed}' --steps=300000

Each run is ``train_finetune.py`` with the task's config, in a process and a folder of its own. With
--offline_runs it goes on from the finished offline run that the pattern names for its seed,
otherwise it trains offline itself. Finished runs are not repeated and interrupted ones go on;
--only_report runs nothing. The table (markdown) and the mean curve show what is finished.

The numbers beside ours (``published.py``) are on D4RL's data, which other ants walked, at 1M
offline updates and 1M environment steps.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

import curves
import published
import reports
import run_flags
import runs as bench
from finetune_tasks import TASKS, Task
from iql_jax import cli
from iql_jax.outputs.logs import Row, read_table
from iql_jax.utils.errors import UserError

# The report has rows for what these settings come to.
_TOLD = ("max_steps", "num_pretraining_steps", "offline_run")

_FLAGS = run_flags.define_flags("runs/finetune_benchmark")
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
_WEIGHTS = run_flags.define_weights()  # Of both phases.
_NUM_ENVS = flags.DEFINE_integer(
    "num_envs", 1, "Training environments stepped at once.", lower_bound=1
)
_PICTURE = flags.DEFINE_string("picture", "", "PNG file to draw the mean curve to.")


def main(_: list[str]) -> None:
    """Run what is missing and report what is there."""
    failed = [] if _FLAGS.only_report.value else bench.run_all(everything(), _FLAGS.jobs.value)
    finished = [run for run in everything() if run.summary() is not None]
    if not finished:
        raise UserError(f"no run of {_TASK.value} in {_FLAGS.runs.value} is finished")
    reports.publish(report(TASKS[_TASK.value], finished), _FLAGS.out.value)
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
    settings = run_flags.given(
        {
            "num_pretraining_steps": _UPDATES,
            "max_steps": _STEPS,
            "eval_interval": _EVAL_INTERVAL,
            "eval_episodes": _EVAL_EPISODES,
            "checkpoint_interval": _CHECKPOINT_INTERVAL,
            "opt_decay_schedule": _DECAY,
            "offline_ratio": _OFFLINE_RATIO,
            "layer_norm": _LAYER_NORM,
            **_WEIGHTS,
        }
    )
    if _OFFLINE_RUNS.value:
        folder = _OFFLINE_RUNS.value.replace("{seed}", str(seed))
        settings["offline_run"] = str(Path(folder).absolute())
    return FinetuneRun(
        folder=Path(_FLAGS.runs.value) / f"{_TASK.value}-seed{seed}",
        config=task.config,
        settings={
            "dataset": task.dataset,
            "seed": seed,
            "num_envs": _NUM_ENVS.value,
            **settings,
        },
        script="train_finetune.py",
    )


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


if __name__ == "__main__":
    cli.run(main)
