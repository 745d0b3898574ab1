"""The paper's table 1 from the datasets that are here, beside the paper's numbers and CORL's.

    python benchmarks/table1.py --jobs=2 --out=table1.md --picture=table1.png
    python benchmarks/table1.py --datasets=dapg/door/human-v0 --methods=IQL,BC --jobs=2
    python benchmarks/table1.py --engine=ray --task_gpus=1 --jobs=8 --runs=runs/table1_ray

By default the datasets are those on this machine whose task has a number in ``published.py``, and
the package's own, which are made where they are missing; --datasets names others. Each is trained
with its domain's config, at that config's number of updates and evaluations unless flags say
otherwise, by the command that anyone would start. With --engine=local every run is a process of its
own, --jobs of them at once; with --engine=ray a dataset's seeds are a population, given to Ray,
--jobs are the datasets at once, and --runs has to name a folder of its own. Finished runs are not
repeated and interrupted ones go on; --only_report runs nothing. The tables (markdown) and the
learning curves show what is finished.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

import aggregates
import curves
import published
import reports
import run_flags
import runs as bench
from iql_jax import cli
from iql_jax.data.find import datasets_root, local_ids
from iql_jax.generation.catalog import GENERATED
from iql_jax.utils.errors import UserError
from populations import Population

DOMAINS = {
    "locomotion": ("halfcheetah", "hopper", "walker2d", "ant"),
    "antmaze": ("antmaze",),
    "kitchen": ("kitchen",),
    "adroit": ("pen", "hammer", "door", "relocate"),
    "pointmaze": ("pointmaze", "maze2d"),
}
"""Domains, which have the names of their configs, and the words that their tasks begin with."""

_FLAGS = run_flags.define_flags("runs/table1")
_DATASETS = flags.DEFINE_list("datasets", None, "Dataset ids; by default all that there are.")
_METHODS = flags.DEFINE_list("methods", ["IQL"], "Methods: IQL, and any of BC and 10%BC beside it.")
_UPDATES = flags.DEFINE_integer("updates", None, "By default the config's.", lower_bound=1)
_EVAL_INTERVAL = flags.DEFINE_integer(
    "eval_interval", None, "Updates between evaluations; by default the config's.", lower_bound=1
)
_EVAL_EPISODES = flags.DEFINE_integer(
    "eval_episodes", None, "Of an evaluation; by default the config's.", lower_bound=1
)
_ENGINE = flags.DEFINE_enum("engine", "local", ["local", "ray"], "Where the runs are trained.")
_TASK_CPUS = flags.DEFINE_float("task_cpus", 1.0, "Cores of a Ray task.", lower_bound=0.0)
_TASK_GPUS = flags.DEFINE_float("task_gpus", 0.0, "GPUs of a Ray task.", lower_bound=0.0)
_PICTURE = flags.DEFINE_string("picture", "", "PNG file to draw the learning curves to.")

flags.register_validator(
    "methods",
    lambda methods: "IQL" in methods and set(methods) <= set(bench.METHODS),
    f"methods are IQL and any of {', '.join(bench.METHODS)}",
)
flags.register_multi_flags_validator(
    ["engine", "seeds"],
    lambda given: given["engine"] == "local" or given["seeds"] >= 2,
    "--engine=ray trains a population, and one seed is none: give --seeds=2 or more",
)


@dataclasses.dataclass(frozen=True)
class Task:
    """A row of the table.

    Attributes:
        dataset: its id.
        domain: a key of ``DOMAINS``.
        name: D4RL's name of it in ``published``; None where nobody has published a number.
    """

    dataset: str
    domain: str
    name: str | None


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """The finished runs of one row that have a score.

    Attributes:
        last: [K], the last of each.
        best: [K], the highest of each.
        bounds: between what they lie.
        stand_ins: the datasets that were trained on in place of the row's.
        notes: what loading said of the data and their evaluation.
    """

    last: reports.FloatArray
    best: reports.FloatArray
    bounds: reports.Bounds
    stand_ins: Sequence[str]
    notes: Sequence[str]


def main(_: list[str]) -> None:
    """Run what is missing, then report what is there."""
    tasks = rows_of_table()
    failed = []
    if not _FLAGS.only_report.value:
        failed = bench.run_all(everything(), _FLAGS.jobs.value)
    reports.publish(report(tasks), _FLAGS.out.value)
    if _PICTURE.value and (panels := finished_panels(tasks)):
        curves.draw(Path(_PICTURE.value), panels, "IQL")
    bench.finish(failed)


def rows_of_table() -> list[Task]:
    """What is trained on, by domain."""
    tasks = [task_of(dataset) for dataset in _DATASETS.value or present()]
    return sorted(tasks, key=lambda task: list(DOMAINS).index(task.domain))


def present() -> list[str]:
    """The datasets that are here and have a column elsewhere, and those that can be made here."""
    local = [dataset for dataset in local_ids(datasets_root()) if published.task(dataset)]
    generated = [
        dataset
        for dataset in GENERATED
        # Data that wait stand in for no other's: they are for antmaze_semantics.py.
        if find_domain(dataset) and "-waiting/" not in dataset
    ]
    return list(dict.fromkeys([*local, *generated]))


def find_domain(dataset: str) -> str | None:
    """The domain of a dataset, by the first word of its task; None if it is of none."""
    words = [name.partition("-")[0] for name in published.names(dataset)]
    found = (domain for domain, tasks in DOMAINS.items() if not {*words}.isdisjoint(tasks))
    return next(found, None)


def task_of(dataset: str) -> Task:
    """A dataset's row.

    Raises:
        UserError: if there is no config for it.
    """
    domain = find_domain(dataset)
    if domain is None:
        tasks = ", ".join(itertools.chain.from_iterable(DOMAINS.values()))
        raise UserError(f"--datasets: {dataset} is of none of the tasks with a config: {tasks}")
    return Task(dataset, domain, published.task(dataset))


# The runs.


def population(method: str, task: Task) -> Population:
    """A method's seeds on a dataset: as one command, and as runs in folders of their own."""
    given = {
        "max_steps": _UPDATES.value,
        "eval_interval": _EVAL_INTERVAL.value,
        "eval_episodes": _EVAL_EPISODES.value,
    }
    name = f"{method.replace('%', '').lower()}-{task.dataset.replace('/', '-')}"
    return Population(
        folder=Path(_FLAGS.runs.value) / name,
        config=f"configs/{task.domain}.py",
        settings={
            "dataset": task.dataset,
            "seed": 0,
            **{key: number for key, number in given.items() if number is not None},
            **bench.METHODS[method],
        },
        seeds=_FLAGS.seeds.value,
        options=(
            f"--engine={_ENGINE.value}",
            f"--task_cpus={_TASK_CPUS.value:g}",
            f"--task_gpus={_TASK_GPUS.value:g}",
        ),
    )


def everything() -> list[bench.Run]:
    """All that is started: a run of each task before the second of any, for early reports."""
    commands = [command for task in rows_of_table() for command in commands_of(task)]
    return sorted(commands, key=lambda command: command.settings["seed"])


def commands_of(task: Task) -> list[bench.Run]:
    """What is started for a dataset: each run, or with another engine each method's seeds."""
    populations = [population(method, task) for method in _METHODS.value]
    if _ENGINE.value == "local":
        return [member for population in populations for member in population.members()]
    return [*populations]


def scores_of(method: str, task: Task) -> Scores:
    """What a method's finished runs on a dataset have scored."""
    runs = population(method, task).members()
    finished = [run for run in runs if (run.summary() or {"score": None})["score"] is not None]
    records = [run.record()["dataset"] for run in finished]
    kinds = {record["choices"]["score"]["kind"] for record in records}
    return Scores(
        last=reports.scores(finished),
        best=reports.best_scores(finished),
        bounds=reports.UNBOUNDED if "normalized" in kinds else reports.SUCCESS,
        stand_ins=sorted({record["id"] for record in records} - {task.dataset}),
        notes=list(dict.fromkeys(note for record in records for note in record["notes"])),
    )


# The report.


def compared() -> list[str]:
    """The methods beside IQL."""
    return [method for method in _METHODS.value if method != "IQL"]


def report(tasks: Sequence[Task]) -> str:
    """The tables and what they mean, in markdown."""
    header = [
        "dataset",
        "updates",
        "IQL, last, mean ± std",
        "95 % interval",
        "seeds",
        "IQL, best",
        *(f"{method}, last" for method in compared()),
        "paper",
        "CORL, last",
        "CORL, best",
    ]
    parts = [reports.markdown(header, [row(task) for task in tasks])]
    if together := aggregate_rows(tasks):
        header = ["domain", "tasks", "mean", "IQM", "95 % interval", "paper, mean", "CORL, mean"]
        parts.append(reports.markdown(header, together))
    parts.append(footnote(tasks))
    notes = {task.dataset: scores_of("IQL", task).notes for task in tasks}
    parts += [f"- {dataset}: {'; '.join(said)}." for dataset, said in notes.items() if said]
    parts += [f"- {task.dataset}: {said.strip()}" for task in tasks if (said := others(task))]
    return "\n\n".join(parts) + "\n"


def row(task: Task) -> list[str]:
    """A dataset's scores, ours and others'."""
    iql = scores_of("IQL", task)
    others = [scores_of(method, task).last for method in compared()]
    stand_ins = f" ({', '.join(iql.stand_ins)} in its place)" if iql.stand_ins else ""
    return [
        f"{task.dataset}{stand_ins}",
        reports.updates(population("IQL", task).members()),
        reports.mean_std(iql.last),
        reports.interval_text(iql.last, iql.bounds),
        reports.each(iql.last, digits=0 if iql.bounds == reports.SUCCESS else 1),
        reports.mean_std(iql.best),
        *(reports.mean_std(scores) for scores in others),
        f"{published.PAPER[task.name]:.1f}" if task.name in published.PAPER else reports.NOT_RUN,
        *(
            published.mean_std(table, task.name) if task.name in table else reports.NOT_RUN
            for table in (published.CORL_LAST, published.CORL_BEST)
        ),
    ]


def aggregate_rows(tasks: Sequence[Task]) -> list[list[str]]:
    """A row for each domain with finished runs of several tasks, and one for all tasks."""
    scores = {task: scores_of("IQL", task).last for task in tasks}
    finished = [task for task in tasks if len(scores[task])]
    groups = {domain: [task for task in finished if task.domain == domain] for domain in DOMAINS}
    if finished not in groups.values():
        groups["all"] = finished
    rows = []
    for domain, members in groups.items():
        if len(members) < 2:
            continue
        of_tasks = [scores[task] for task in members]
        bounds = aggregates.iqm_interval(of_tasks)
        rows.append(
            [
                domain,
                f"{len(members)}",
                f"{np.mean([one.mean() for one in of_tasks]):.1f}",
                f"{aggregates.iqm(of_tasks):.1f}",
                reports.NOT_RUN if bounds is None else f"{bounds[0]:.1f} to {bounds[1]:.1f}",
                published_mean([published.PAPER.get(task.name or "") for task in members]),
                published_mean(
                    [published.CORL_LAST.get(task.name or "", (None,))[0] for task in members]
                ),
            ]
        )
    return rows


def published_mean(numbers: Sequence[float | None]) -> str:
    """The mean of others' numbers for the same tasks; none unless they have all of them."""
    known = [number for number in numbers if number is not None]
    return f"{np.mean(known):.1f}" if len(known) == len(numbers) else reports.NOT_RUN


def others(task: Task) -> str:
    """What the runs of a dataset have other settings in than its config file."""
    runs = [run for method in _METHODS.value for run in population(method, task).members()]
    return reports.other_settings(runs, told=("max_steps",), of_method=bench.OF_METHODS)


def footnote(tasks: Sequence[Task]) -> str:
    """What the numbers of the tables are, and which of them cannot be compared."""
    runs = [run for task in tasks for run in population("IQL", task).members()]
    return (
        "Scores are success rates (%) in mazes and returns normalised by the dataset's references "
        f"elsewhere, of {reports.episodes(runs)} episodes a seed. last: the last evaluation, at "
        "the updates stated; best: the highest of a run's evaluations, chosen afterwards, and so "
        "too high. The interval is Student's t over seeds, cut to [0, 100] for success rates; "
        "fewer than three have none, nor have equal ones, which say nothing of their spread. "
        "IQM: the mean of the middle half of all runs, with a bootstrap interval stratified by "
        "task (Agarwal et al. 2021); mean: of the tasks' means. paper: Kostrikov et al. 2021 "
        "(arXiv 2110.06169), on D4RL's -v0 data, -v2 of locomotion. CORL: its IQL on D4RL's -v2 "
        "data, -v1 of Adroit (README of github.com/corl-team/CORL). Both are for 1M updates and on "
        "D4RL's own data and environments: where a dataset is another, or the environment newer, "
        "they say what is usual, not what is to be expected. Means of theirs are over the same "
        "tasks. "
        f"{reports.NOT_RUN}: not run, no reference to score by, or not published."
    )


def finished_panels(tasks: Sequence[Task]) -> list[curves.Panel]:
    """A panel for each dataset with a finished and scored run of IQL."""
    panels = []
    for task in tasks:
        iql = scores_of("IQL", task)
        if not len(iql.last):
            continue
        updates, scores = curves.curve(population("IQL", task).members())
        if not scores.size:  # No step at which all were evaluated.
            continue
        compared_with = {method: scores_of(method, task).last for method in compared()}
        elsewhere = published.PAPER.get(task.name or "")
        panels.append(
            curves.Panel(
                title=task.dataset,
                steps=updates,
                scores=scores,
                dashed=[
                    (f"{name}, last", float(last.mean()))
                    for name, last in compared_with.items()
                    if len(last)
                ],
                dotted=[] if elsewhere is None else [("paper (D4RL's data)", elsewhere)],
                bounds=iql.bounds,
            )
        )
    return panels


if __name__ == "__main__":
    cli.run(main)
