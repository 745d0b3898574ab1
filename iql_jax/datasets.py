"""The command line of the datasets: ``python -m iql_jax.datasets list | info | check | generate``.

Results go to standard output, everything else to standard error. The exit status is 0, or 1 where
something failed, or 2 where the command line is wrong.
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

import numpy as np

from iql_jax.data.config import DataConfig
from iql_jax.data.find import datasets_root, local_ids
from iql_jax.data.load import Dataset, load_dataset
from iql_jax.data.metadata import read_metadata
from iql_jax.data.rewards import episode_returns
from iql_jax.envs.make import make_environment
from iql_jax.generation import catalog
from iql_jax.generation.generate import generate
from iql_jax.utils.console import logger
from iql_jax.utils.errors import UntrustedEnvironment, UserError, explain


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        status = run(options)
        print(end="", flush=True)
        return status
    except BrokenPipeError:
        # The reader, such as `head`, has gone; what Python flushes at exit must go elsewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        explained = explain(error, "the same command starts again")
        if explained is None:
            raise
        status, line = explained
        print(line, file=sys.stderr)
        return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m iql_jax.datasets", description="Offline datasets."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="datasets that are here, or can be generated")
    listing.set_defaults(run=_list)

    generating = commands.add_parser("generate", help="generate one of the package's datasets")
    generating.set_defaults(run=_generate)
    generating.add_argument("id", help="such as iql/pointmaze/umaze-v0")
    generating.add_argument(
        "--steps", type=int, default=catalog.FULL_STEPS, help="transitions (%(default)s)"
    )
    generating.add_argument("--seed", type=int, default=0, help="what the content depends on (0)")
    generating.add_argument("--force", action="store_true", help="replace it where it exists")

    for name, run, text in (
        ("info", _info, "say what a dataset or a file holds"),
        ("check", _check, "load it and build its environment; status 1 where either fails"),
    ):
        command = commands.add_parser(name, help=text)
        command.set_defaults(run=run)
        command.add_argument("dataset", help="a Minari id, or a file of D4RL or OGBench")
        command.add_argument("--task", default="", help="of a file: the task's name")
        command.add_argument(
            "--trust_environment",
            action="store_true",
            help="build an environment that is not known to be safe",
        )
    for command in commands.choices.values():
        command.add_argument("--no-progress", action="store_true", help="show no progress bars")
    return parser


def _list(options: argparse.Namespace) -> int:
    root = datasets_root()
    here = local_ids(root)
    for dataset_id in sorted({*here, *catalog.GENERATED}):
        size = "not generated"
        if dataset_id in here:
            try:
                size = f"{_steps(root / dataset_id)} steps, {_megabytes(root / dataset_id)}"
            except UserError as error:
                size = str(error)
        print(f"{dataset_id:40} {size}")
    print(f"in {root}; to generate one: python -m iql_jax.datasets generate ID", file=sys.stderr)
    return 0


def _generate(options: argparse.Namespace) -> int:
    path = generate(
        options.id,
        steps=options.steps,
        seed=options.seed,
        progress=not options.no_progress,
        force=options.force,
    )
    print(f"{path} ({_megabytes(path)}); --force generates it again", file=sys.stderr)
    return 0


def _info(options: argparse.Namespace) -> int:
    _report(_load(options))
    return 0


def _check(options: argparse.Namespace) -> int:
    try:
        dataset = _load(options)
        _report(dataset)
        if dataset.environment is not None:
            make_environment(dataset.require_environment()).close()
            _print("built", "the environment builds, and has the data's observations and actions")
    except UntrustedEnvironment as error:  # The files may well be right.
        _print("not built", str(error))
    except UserError as error:
        _print("FAILED", str(error))
        return 1
    return 0


def _load(options: argparse.Namespace) -> Dataset:
    """Loads a dataset; what loading says of it is in the report."""
    logger.disabled = True
    try:
        return load_dataset(
            DataConfig(dataset=options.dataset, task=options.task),
            options.dataset,
            next_actions=True,
            trusted=options.trust_environment,
            progress=not options.no_progress,
        )
    finally:
        logger.disabled = False


def _report(dataset: Dataset) -> None:
    """Prints what a dataset holds, a topic a line, and the notes that loading took."""
    rewards = dataset.transitions["rewards"]
    lengths = np.diff(np.flatnonzero(dataset.transitions["next_action_masks"] == 0), prepend=-1)
    returns = episode_returns(rewards, lengths)
    ends = int((dataset.transitions["masks"] == 0).sum())
    layout, environment = dataset.layout, f"none: {dataset.no_environment}"
    if dataset.environment is not None:
        environment = dataset.environment.describe()
    kind = "numbers" if layout.discrete_start is None else "choices"
    for topic, text in {
        "dataset": dataset.record["id"],
        "transitions": f"{dataset.size:,} in {len(lengths):,} episodes of {lengths.min():,} to "
        f"{lengths.max():,}; {ends:,} end the bootstrap",
        "observations": f"{layout.observation_dim} numbers",
        "actions": f"{layout.action_dim} {kind}",
        "rewards": f"{rewards.min():.4g} to {rewards.max():.4g}, mean {rewards.mean():.4g}",
        "returns": f"{returns.min():,.4g} to {returns.max():,.4g}, mean {returns.mean():,.4g}",
        "environment": environment,
        "score": dataset.score_rule.kind,
        "fingerprint": dataset.record["fingerprint"],
    }.items():
        _print(topic, text)
    for note in dataset.record["notes"]:
        _print("note", note)


def _print(topic: str, text: str) -> None:
    """Prints one line, whatever an error's message holds."""
    print(f"{topic:13} {' '.join(text.split())}")


def _steps(folder: pathlib.Path) -> str:
    return str(read_metadata(folder).get("total_steps", "?"))


def _megabytes(folder: pathlib.Path) -> str:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return f"{sum(file.stat().st_size for file in files) / 1e6:,.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
