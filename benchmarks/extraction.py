"""How the policy is extracted from the same Q and V: AWR, or DDPG+BC, several seeds of each.

    python benchmarks/extraction.py --jobs=2 --antmaze_updates=300000 --out=extraction.md

IQL's own extraction is advantage-weighted regression (AWR, here with the paper's beta of 10).
DDPG+BC goes up the critics' gradient and stays with the data by alpha times their log-likelihood;
Park et al. 2024 (arXiv 2406.09329) found that with the same values it often makes the better
policy. Each run is ``train_offline.py`` with the task's config, in a process and a folder of its
own; the rows of a task differ in the actor's loss alone and have the same budget. Every alpha of
--alphas is a row: the default's ends are what OGBench, with this normalisation of Q, uses for
its goal-conditioned IQL on PointMaze (0.003) and AntMaze (0.3).

Finished runs are not repeated and interrupted ones go on; --only_report runs nothing, and leaves
out the rows of which nothing is finished. The table is in markdown.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

import reports
import run_flags
import runs as bench
from iql_jax import cli


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained on: a config file, relative to the repository, and a dataset's id."""

    config: str
    dataset: str


@dataclasses.dataclass(frozen=True)
class Extraction:
    """One way to the policy.

    Attributes:
        label: in the table.
        name: in the names of folders.
        settings: the keys that make it.
    """

    label: str
    name: str
    settings: dict[str, Any]


TASKS = {
    "pointmaze-large": Task("configs/pointmaze.py", "iql/pointmaze/large-v0"),
    "antmaze-medium-play": Task("configs/antmaze.py", "iql/antmaze/medium-play-v0"),
}

_FLAGS = run_flags.define_flags("runs/extraction_benchmark")
_TASKS = flags.DEFINE_list("tasks", list(TASKS), "Tasks.")
_TEMPERATURES = flags.DEFINE_list(
    "temperatures", ["10"], "The betas of AWR, which multiply the advantage; a row each."
)
_BC_ALPHAS = flags.DEFINE_list(
    "alphas", ["0.003", "0.03", "0.3"], "The alphas of DDPG+BC; a row each."
)
_UPDATES = {
    "pointmaze-large": flags.DEFINE_integer(
        "pointmaze_updates", 100_000, "Updates of a run on PointMaze.", lower_bound=1
    ),
    "antmaze-medium-play": flags.DEFINE_integer(
        "antmaze_updates", 1_000_000, "Updates of a run on AntMaze.", lower_bound=1
    ),
}


def _are_numbers(texts: Sequence[str]) -> bool:
    try:
        return all(float(text) >= 0 for text in texts)
    except ValueError:
        return False


flags.register_validator(
    "tasks", lambda tasks: set(tasks) <= set(TASKS), f"tasks are {', '.join(TASKS)}"
)
flags.register_validator("temperatures", _are_numbers, "numbers, 0 or more")
flags.register_validator("alphas", _are_numbers, "numbers, 0 or more")


def main(_: list[str]) -> None:
    """Run what is missing, then report what is there."""
    failed = [] if _FLAGS.only_report.value else bench.run_all(everything(), _FLAGS.jobs.value)
    reports.publish(report(), _FLAGS.out.value)
    bench.finish(failed)


def everything() -> list[bench.Run]:
    """All runs, in the order in which they start: a seed of each row before the next seed."""
    return [
        run(extraction, task, seed)
        for seed in range(_FLAGS.seeds.value)
        for extraction in extractions()
        for task in _TASKS.value
    ]


def extractions() -> list[Extraction]:
    """The rows of a task."""
    betas = sorted({float(beta) for beta in _TEMPERATURES.value})
    alphas = sorted({float(alpha) for alpha in _BC_ALPHAS.value})
    awr = [
        Extraction(f"AWR, beta {n:g}", f"awr-{n:g}", {"actor_loss": "awr", "temperature": n})
        for n in betas
    ]
    ddpgbc = [
        Extraction(f"DDPG+BC, alpha {n:g}", f"ddpgbc-{n:g}", {"actor_loss": "ddpgbc", "alpha": n})
        for n in alphas
    ]
    return [*awr, *ddpgbc]


def run(extraction: Extraction, task: str, seed: int) -> bench.Run:
    """One agent's training."""
    return bench.Run(
        folder=Path(_FLAGS.runs.value) / f"{extraction.name}-{task}-seed{seed}",
        config=TASKS[task].config,
        settings={
            "dataset": TASKS[task].dataset,
            "seed": seed,
            "max_steps": _UPDATES[task].value,
            **extraction.settings,
        },
    )


def report() -> str:
    """The table and what it means, in markdown."""
    header = [
        "task",
        "extraction",
        "success (%), mean ± std",
        "95 % interval",
        "seeds",
        "updates",
    ]
    rows = []
    for task in _TASKS.value:
        for extraction in extractions():
            seeds = [run(extraction, task, seed) for seed in range(_FLAGS.seeds.value)]
            scores = reports.scores(seeds)
            if _FLAGS.only_report.value and not len(scores):
                continue
            rows.append(
                [
                    task,
                    extraction.label,
                    reports.mean_std(scores),
                    reports.interval_text(scores),
                    reports.each(scores),
                    reports.updates(seeds),
                ]
            )
    others = [
        reports.other_settings(
            [run for run in everything() if run.config == TASKS[task].config],
            told=("max_steps",),
            of_method=("actor_loss", "temperature", "alpha"),
        )
        for task in _TASKS.value
    ]
    return (
        f"{reports.markdown(header, rows)}\n\n"
        f"Success at the last evaluation, {reports.episodes(everything())} episodes a seed. Q and "
        "V are IQL's in every row, and the rows of a task differ in the actor's loss alone. "
        f"{''.join(others)}beta "
        "multiplies the advantage; alpha is the weight of the data's log-likelihood beside "
        "Q / mean |Q| (Park et al. 2024, arXiv 2406.09329). Every value that was tried is a row: "
        "the best of several, picked afterwards, looks better than it is. "
        f"{reports.INTERVAL_NOTE} {reports.NOT_RUN}: not run.\n"
    )


if __name__ == "__main__":
    cli.run(main)
