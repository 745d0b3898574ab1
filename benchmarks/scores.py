"""Scores of many runs: starts what is missing of a group, and prints its table.

    python benchmarks/scores.py --list
    python benchmarks/scores.py --run pointmaze --jobs 2
    python benchmarks/scores.py --run antmaze --only 'antmaze-*-IQL' --seeds 0 1 2 --updates 1000000
    python benchmarks/scores.py --table antmaze --episodes 500 --out scores.md --picture scores.png

The groups stand in ``common/groups.py``. Each run is the command that anyone would start, in a
process and a folder of its own below --runs; finished runs are not repeated, interrupted ones are
resumed. With --population an entry's seeds are one command, ``--config.num_seeds``: for a GPU or
TPU, and with --flags=--engine=ray for a cluster. --table shows what is finished; with --episodes it
first evaluates the last policies over so many, once: a run's folder keeps what was found.
"""

import argparse
import dataclasses
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common import curves, published, tables
from common.groups import GROUPS, Entry
from common.runs import ROOT, Run, environment, run_all
from iql_jax.populations.report import greatest_score

BUDGET = ("max_steps", "num_pretraining_steps", "eval_interval", "eval_episodes")


def main() -> int:
    """Lists, runs or reports; returns 1 if a run failed."""
    options = parse()
    if options.list:
        for group, entries in GROUPS.items():
            print(group)
            for entry in entries:
                changed = " ".join(f"{key}={value}" for key, value in entry.settings.items())
                print(f"  {entry.name}: {entry.seeds} seeds, configs/{entry.config}.py {changed}")
        return 0
    group = options.run or options.table
    entries = [
        entry for entry in GROUPS[group] if any(fnmatch(entry.name, word) for word in options.only)
    ]
    if not entries:
        sys.exit(f"no entry of {group} has a name like {' or '.join(options.only)}; see --list")
    runs = {entry: runs_of(entry, group, options) for entry in entries}
    if options.run:
        return start(runs, options)
    seeds = {entry: [run for run in runs[entry] if is_finished(run, BUDGET)] for entry in entries}
    finished = {entry: done for entry, done in seeds.items() if done}
    if not finished:
        sys.exit(f"no run of {group} in {options.runs} is finished")
    if options.episodes:
        finished = {
            entry: [evaluated(run, options.episodes) for run in done]
            for entry, done in tqdm(finished.items(), unit="entry")
        }
    tables.publish(report(finished), options.out)
    if options.picture is not None:
        tasks: dict[str, dict[str, list[Run]]] = {}
        for entry, done in finished.items():
            tasks.setdefault(entry.task, {})[entry.method] = done
        curves.draw(options.picture, tasks)
    return 0


def parse() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="list the groups and their entries")
    what.add_argument("--run", choices=GROUPS, help="start what is missing of a group")
    what.add_argument("--table", choices=GROUPS, help="print the table of a group")
    parser.add_argument("--runs", type=Path, default=Path("runs/scores"), help="(%(default)s)")
    parser.add_argument("--files", type=Path, default=Path(), help="folder of the group 'files'")
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of entries' names")
    parser.add_argument("--seeds", type=int, nargs="+", help="by default the entry's")
    parser.add_argument("--updates", type=int, help="updates; environment steps of fine-tuning")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="more settings")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (%(default)s)")
    parser.add_argument("--population", action="store_true", help="an entry's seeds together")
    parser.add_argument("--flags", nargs="+", default=[], help="further words of the commands")
    parser.add_argument("--episodes", type=int, help="evaluate the last policies over so many")
    parser.add_argument("--out", type=Path, help="markdown file of the table")
    parser.add_argument("--picture", type=Path, help="PNG file of the learning curves")
    return parser.parse_args()


def runs_of(entry: Entry, group: str, options: argparse.Namespace) -> list[Run]:
    """Returns an entry's runs with what the command line says of their settings."""
    changed: dict[str, Any] = dict(setting.split("=", 1) for setting in options.set)
    if options.updates is not None:
        changed["max_steps"] = options.updates
    runs = []
    for seed in options.seeds or range(entry.seeds):
        run = entry.run(options.runs, group, seed, options.files)
        runs.append(dataclasses.replace(run, settings={**run.settings, **changed}))
    return runs


def start(runs: Mapping[Entry, list[Run]], options: argparse.Namespace) -> int:
    """Starts what is not finished, a seed of each entry before the next seed; 1 if a run failed."""
    commands = [run for seeds in runs.values() for run in seeds if not is_finished(run)]
    if options.population:
        unfinished = [seeds for seeds in runs.values() if not all(map(is_finished, seeds))]
        commands = [population(seeds) for seeds in unfinished]
    commands.sort(key=lambda run: run.settings["seed"])
    commands = [dataclasses.replace(run, flags=options.flags) for run in commands]
    return 1 if run_all(commands, options.jobs) else 0


def population(runs: Sequence[Run]) -> Run:
    """Returns one command that trains consecutive seeds together, in the same folders."""
    seeds = [run.settings["seed"] for run in runs]
    if seeds != list(range(seeds[0], seeds[0] + len(seeds))):
        sys.exit(f"--population trains consecutive seeds, not {seeds}")
    settings = {**runs[0].settings, "num_seeds": len(seeds)}
    return Run(runs[0].folder.parent, runs[0].config, settings)


def evaluated(run: Run, episodes: int) -> Run:
    """Returns a run with what its last policy does in so many episodes."""
    path = run.folder / f"episodes_{episodes}.txt"
    if not path.exists():
        command = [sys.executable, "-m", "iql_jax.evaluate", f"--workdir={run.folder}"]
        done = subprocess.run(
            [*command, f"--episodes={episodes}"], cwd=ROOT, env=environment(),
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            sys.exit(f"{run.folder} cannot be evaluated")
        path.write_text(done.stdout)
    found = dict(line.split() for line in path.read_text().splitlines())
    keys = [key for key in ("score", "success_rate") if found[key] != "-"]
    numbers = {key: float(found[key]) for key in keys} | {"eval_episodes": episodes}
    return dataclasses.replace(run, evaluated=numbers)


def is_finished(run: Run, ignored: Sequence[str] = ()) -> bool:
    """Returns whether a run is finished; one with other settings ends the program.

    Args:
        run: the run.
        ignored: keys that may have another value.
    """
    if run.summary() is None:
        return False
    recorded = run.recorded()
    for key, wanted in run.settings.items():
        found = recorded.get(key)
        if key not in ignored and not same(found, wanted):
            sys.exit(f"{run.folder} has {key}={found}, not {wanted}; choose another --runs")
    return True


def same(found: Any, wanted: Any) -> bool:
    """Returns whether a recorded setting is the wanted one, which may be a word of the command."""
    try:
        return float(found) == float(wanted)
    except (TypeError, ValueError):
        return str(found) == str(wanted)


def report(finished: Mapping[Entry, list[Run]]) -> str:
    """Returns the table and its footnotes, in markdown."""
    online = next(iter(finished)).config.endswith("_finetune")
    steps = ["offline updates", "before", "environment steps"] if online else ["updates"]
    scores = ["score, mean ± std", "95 % interval", "seeds"]
    header = ["task", "method", *steps, *scores, "paper", "CORL"]
    rows = [row(entry, done, online) for entry, done in finished.items()]
    return f"{tables.markdown(header, rows)}\n\n{notes(finished)}"


def row(entry: Entry, runs: Sequence[Run], online: bool) -> list[str]:
    """Returns the line of an entry's finished runs."""
    if online:
        before = tables.mean_std(of(runs, "offline_score"))
        steps = [counts(map(offline_updates, runs)), before, counts(of(runs, "env_steps"))]
        others = published.finetuning(entry.task)
    else:
        steps, others = [counts(of(runs, "updates"))], published.offline(entry.task)
    if entry.settings.get("temperature") == 0:  # Cloning. Theirs are IQL's.
        others = ["", ""]
    scores = of(runs, "score")  # A dataset without a reference has none.
    is_success = greatest_score(runs[0].table("evaluations")) == tables.SUCCESS[1]
    bounds = tables.SUCCESS if is_success else tables.UNBOUNDED
    return [
        entry.task,
        entry.method,
        *steps,
        tables.mean_std(scores),
        tables.interval_text(scores, bounds),
        ", ".join(f"{score:.1f}" for score in scores) or "-",
        *others,
    ]


def of(runs: Sequence[Run], key: str) -> list[Any]:
    """Returns what the runs' summaries have for a key, of those that have it."""
    found = [(run.summary() or {}).get(key) for run in runs]
    return [entry for entry in found if entry is not None]


def counts(numbers: Iterable[int]) -> str:
    """Returns the different ones of some counts."""
    return " / ".join(f"{number:,}" for number in sorted(set(numbers)))


def offline_updates(run: Run) -> int:
    """Returns the updates before a fine-tuning run's first environment step."""
    return int(run.table("evaluations")[-1]["step"] or 0) - int(of([run], "env_steps")[0])


def notes(finished: Mapping[Entry, Sequence[Run]]) -> str:
    """Returns what the numbers are, and where another dataset took the place of an entry's."""
    runs = [run for seeds in finished.values() for run in seeds]
    replaced = {
        f"{run.settings['dataset']}: {used} took its place."
        for run in runs
        if (used := of([run], "dataset")[0]["id"]) != run.settings["dataset"]
        and not run.settings["dataset"].endswith(".hdf5")
    }
    return " ".join(
        [
            f"Last evaluation, {counts(of(runs, 'eval_episodes'))} episodes a seed: success (%) "
            "in mazes, elsewhere returns normalized by the dataset's references.",
            tables.INTERVAL_NOTE,
            "The paper's and CORL's numbers are on D4RL's data after 1M updates.",
            *sorted(replaced),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
