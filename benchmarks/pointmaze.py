"""Success on the embedded PointMaze datasets: IQL and behavioural cloning, several seeds.

    python benchmarks/pointmaze.py --runs=runs/pointmaze_benchmark [--jobs=2]

Each run is ``train_offline.py --config=configs/pointmaze.py`` as anyone would start it, in a
process and a folder of its own; cloning is the same with --config.temperature=0. Finished runs are
not repeated and interrupted ones go on; --only_report runs nothing. The table (markdown) shows
what is finished.
"""

from pathlib import Path

from absl import flags

import reports
import run_flags
import runs
from iql_jax import cli
from iql_jax.utils.errors import UserError

_FLAGS = run_flags.define_flags("runs/pointmaze_benchmark")
_TASKS = flags.DEFINE_list("tasks", ["umaze", "medium", "large"], "Mazes.")

METHODS = ("IQL", "BC")


def main(_: list[str]) -> None:
    """Run what is missing, then print the table."""
    failed = [] if _FLAGS.only_report.value else runs.run_all(everything(), _FLAGS.jobs.value)
    if not reports.summaries(everything()):
        raise UserError(f"no run in {_FLAGS.runs.value} is finished")
    reports.publish(table(), _FLAGS.out.value)
    runs.finish(failed)


def everything() -> list[runs.Run]:
    """All runs, in the order in which they start."""
    return [
        run(method, task, seed)
        for method in METHODS
        for seed in range(_FLAGS.seeds.value)
        for task in _TASKS.value
    ]


def run(method: str, task: str, seed: int) -> runs.Run:
    """One agent's training."""
    return runs.Run(
        folder=Path(_FLAGS.runs.value) / f"{method.lower()}-{task}-seed{seed}",
        config="configs/pointmaze.py",
        settings={"dataset": f"iql/pointmaze/{task}-v0", "seed": seed, **runs.METHODS[method]},
    )


def table() -> str:
    """Markdown: mean success over seeds, standard deviation, 95 % interval, time."""
    header = [
        "maze",
        "method",
        "success (%), mean ± std",
        "95 % interval",
        "seeds",
        "updates",
        "minutes",
    ]
    rows, shown = [], []
    for task in _TASKS.value:
        for method in METHODS:
            seeds = [run(method, task, seed) for seed in range(_FLAGS.seeds.value)]
            summaries, scores = reports.summaries(seeds), reports.scores(seeds)
            if not summaries:
                continue
            shown += seeds
            minutes = max(summary["wall_seconds"] for summary in summaries) / 60
            rows.append(
                [
                    task,
                    method,
                    reports.mean_std(scores),
                    reports.interval_text(scores),
                    reports.each(scores),
                    reports.updates(seeds),
                    f"{minutes:.1f}",
                ]
            )
    return (
        f"{reports.markdown(header, rows)}\n\n"
        f"Last evaluation, {reports.episodes(shown)} episodes a seed; minutes of the slowest "
        "seed's run, evaluation included. "
        f"{reports.other_settings(shown, told=('max_steps',), of_method=runs.OF_METHODS)}"
        f"{reports.INTERVAL_NOTE}\n"
    )


if __name__ == "__main__":
    cli.run(main)
