"""Success on the embedded AntMaze datasets: IQL, cloning, and cloning of the best tenth.

    python benchmarks/antmaze.py --jobs=2 --updates=1000000 --out=antmaze.md --picture=antmaze.png

Each run is ``train_offline.py --config=configs/antmaze.py``, the paper's settings, in a process and
a folder of its own; with --together, for a GPU or TPU, all are members of one population. BC is the
same with --config.temperature=0, "10 % BC" besides with --config.top_episodes=0.1 and
--config.maze_drop=after_success, so that the best tenth are the quickest arrivals. Finished runs
are not repeated and interrupted ones go on; --only_report runs nothing. The table (markdown) and
the learning curves show what is finished.

The numbers beside ours (``published.py``) are on D4RL's data, which other ants walked, at 1M
updates: the paper's on AntMaze-v0, the last scores of CORL's IQL on AntMaze-v2.
"""

from pathlib import Path

from absl import flags

import curves
import published
import reports
import run_flags
import runs as bench
from iql_jax import cli

TASKS = [
    "umaze",
    "umaze-diverse",
    "medium-play",
    "medium-diverse",
    "large-play",
    "large-diverse",
]

_FLAGS = run_flags.define_flags("runs/antmaze_benchmark")
_TOGETHER = run_flags.define_together()
_TASKS = flags.DEFINE_list("tasks", TASKS, "Tasks.")
_METHODS = flags.DEFINE_list("methods", list(bench.METHODS), "Methods to run.")
_UPDATES = flags.DEFINE_integer("updates", 1_000_000, "Updates of an IQL run.", lower_bound=1)
_BC_UPDATES = flags.DEFINE_integer(
    "bc_updates", None, "Updates of a cloning run; by default as many.", lower_bound=1
)
_EVAL_INTERVAL = flags.DEFINE_integer(
    "eval_interval", 100_000, "Updates between evaluations.", lower_bound=1
)
_EVAL_EPISODES = flags.DEFINE_integer("eval_episodes", 100, "Of an evaluation.", lower_bound=1)
_WEIGHTS = run_flags.define_weights()
_PICTURE = flags.DEFINE_string("picture", "", "PNG file to draw the learning curves to.")

flags.register_validator(
    "tasks", lambda tasks: set(tasks) <= set(TASKS), f"tasks are {', '.join(TASKS)}"
)
flags.register_validator(
    "methods",
    lambda methods: set(methods) <= set(bench.METHODS),
    f"methods are {', '.join(bench.METHODS)}",
)


def main(_: list[str]) -> None:
    """Run what is missing, then report what is there."""
    failed = []
    if not _FLAGS.only_report.value:
        failed = bench.train(everything(), _FLAGS.jobs.value, _TOGETHER.value)
    reports.publish(report(), _FLAGS.out.value)
    if _PICTURE.value and (panels := finished_panels()):
        curves.draw(Path(_PICTURE.value), panels, iql_label())
    bench.finish(failed)


def everything() -> list[bench.Run]:
    """All runs, in the order in which they start: a seed of each before the next seed."""
    return [
        run(method, task, seed)
        for seed in range(_FLAGS.seeds.value)
        for method in _METHODS.value
        for task in _TASKS.value
    ]


def run(method: str, task: str, seed: int) -> bench.Run:
    """One agent's training."""
    updates = _UPDATES.value
    if method != "IQL" and _BC_UPDATES.value is not None:
        updates = _BC_UPDATES.value
    return bench.Run(
        folder=Path(_FLAGS.runs.value) / f"{method.replace('%', '').lower()}-{task}-seed{seed}",
        config="configs/antmaze.py",
        settings={
            "dataset": f"iql/antmaze/{task}-v0",
            "seed": seed,
            "max_steps": updates,
            "eval_interval": _EVAL_INTERVAL.value,
            "eval_episodes": _EVAL_EPISODES.value,
            **(run_flags.given(_WEIGHTS) if method == "IQL" else bench.METHODS[method]),
        },
    )


def of_seeds(method: str, task: str) -> list[bench.Run]:
    """The runs of one cell of the table."""
    return [run(method, task, seed) for seed in range(_FLAGS.seeds.value)]


def report() -> str:
    """The table and what it means, in markdown."""
    header = [
        "task",
        "updates",
        f"{iql_label()}, mean ± std",
        "95 % interval",
        "seeds",
        "BC",
        "10 % BC",
        "paper",
        "CORL",
    ]
    rows = []
    for task in _TASKS.value:
        iql, bc, top = (of_seeds(method, task) for method in bench.METHODS)
        scores = reports.scores(iql)
        rows.append(
            [
                task,
                reports.updates(iql),
                reports.mean_std(scores),
                reports.interval_text(scores),
                reports.each(scores),
                reports.mean_std(reports.scores(bc)),
                reports.mean_std(reports.scores(top)),
                f"{published.PAPER[f'antmaze-{task}']:.1f}",
                published.mean_std(published.CORL_LAST, f"antmaze-{task}"),
            ]
        )
    return f"{reports.markdown(header, rows)}\n\n{footnote()}\n"


def iql_label() -> str:
    """What IQL is called in the table and the picture."""
    told = ", ".join(f"{key}={value:g}" for key, value in run_flags.given(_WEIGHTS).items())
    return f"IQL ({told})" if told else "IQL"


def footnote() -> str:
    """What the numbers of the table are, and which of them cannot be compared."""
    shown = [
        run for method in bench.METHODS for task in _TASKS.value for run in of_seeds(method, task)
    ]
    cloning = [
        run for method in ("BC", "10%BC") for task in _TASKS.value for run in of_seeds(method, task)
    ]
    cloned = (
        f"; cloning at {reports.updates(cloning)} updates" if reports.summaries(cloning) else ""
    )
    others = reports.other_settings(
        shown, told=("max_steps",), of_method=(*bench.OF_METHODS, *_WEIGHTS)
    )
    return (
        f"Success (%) at the last evaluation, {reports.episodes(shown)} episodes a seed, on "
        f"the embedded data at the updates stated{cloned}. The actor's learning rate falls to 0 "
        f"over a run's own updates. {others}{reports.INTERVAL_NOTE} "
        "paper: Kostrikov et al. 2021, table 1, D4RL's AntMaze-v0. "
        "CORL: the last scores of its IQL on D4RL's AntMaze-v2. Both are on "
        "D4RL's data, collected with another ant, at 1M updates: they say what is usual, not what "
        f"is to be expected here. {reports.NOT_RUN}: not run."
    )


def finished_panels() -> list[curves.Panel]:
    """A panel for each task with a finished run of IQL."""
    panels = []
    for task in _TASKS.value:
        updates, scores = curves.curve(of_seeds("IQL", task))
        if not scores.size:
            continue
        cloned = {
            label: reports.scores(of_seeds(method, task))
            for method, label in (("BC", "BC, last"), ("10%BC", "10 % BC, last"))
        }
        panels.append(
            curves.Panel(
                title=task,
                steps=updates,
                scores=scores,
                dashed=[(label, float(k.mean())) for label, k in cloned.items() if len(k)],
                dotted=[("paper (D4RL's data)", published.PAPER[f"antmaze-{task}"])],
            )
        )
    return panels


if __name__ == "__main__":
    cli.run(main)
