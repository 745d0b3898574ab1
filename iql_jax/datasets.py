"""The command line of the datasets: ``python -m iql_jax.datasets COMMAND``.

The commands are list, make, check, info, import-d4rl and import-ogbench.

Results go to standard output, everything else to standard error. The exit status is 0, or 1 where
something failed or a check found a defect, or 2 where the command line is wrong.
"""

import argparse
import difflib
import functools
import os
import pathlib
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from iql_jax import cli
from iql_jax.data.episodes import read_episodes
from iql_jax.data.find import datasets_root, local_ids
from iql_jax.data.metadata import read_metadata
from iql_jax.envs.specs import parse_spec
from iql_jax.generation import catalog
from iql_jax.generation.generate import generate
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted, StopRequest

_WIDTH = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words of the command line; None takes the program's own.

    Returns:
        The exit status.
    """
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
        told = cli.explain(error, "the same command goes on from there")
        if told is None:
            raise
        status, line = told
        print(line, file=sys.stderr)
        return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m iql_jax.datasets", description="Offline datasets."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="datasets that are here, or can be made here")
    listing.set_defaults(run=_list)

    making = commands.add_parser("make", help="make one of the package's own datasets")
    making.add_argument("id", help="such as iql/pointmaze/umaze-v0")
    making.add_argument(
        "--steps",
        type=int,
        help=f"transitions (by default the dataset's usual number, mostly {catalog.FULL_STEPS:,})",
    )
    making.add_argument("--seed", type=int, default=0, help="what the content depends on (0)")
    making.add_argument("--force", action="store_true", help="make it again where it exists")
    making.set_defaults(run=_make)

    for name, run, text in (
        ("check", _check, "look for defects; the exit status is 1 where there are any"),
        ("info", _info, "say what is in a dataset"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("id", help="a Minari dataset id, such as D4RL/antmaze/umaze-v1")
        command.set_defaults(run=run)
    commands.choices["check"].add_argument(
        "--trust_environment",
        action="store_true",
        help="build an environment that is not known to be safe",
    )

    d4rl = commands.add_parser("import-d4rl", help="turn an HDF5 file of D4RL's into a dataset")
    d4rl.set_defaults(run=_import_d4rl)
    d4rl.add_argument(
        "--keep-timeouts",
        action="store_true",
        help="keep the transitions at time limits, which D4RL leaves out",
    )
    d4rl.add_argument(
        "--time-limit",
        type=int,
        metavar="STEPS",
        help="steps an episode, for files that mark no time limits (D4RL's)",
    )
    ogbench = commands.add_parser("import-ogbench", help="turn an .npz file of OGBench's into one")
    ogbench.set_defaults(run=_import_ogbench)
    ogbench.add_argument(
        "--reward", choices=["zero"], help="store rewards of 0, where there are none to be had"
    )
    for command, example in (
        (d4rl, "d4rl/hopper/medium-v2"),
        (ogbench, "ogbench/antmaze-medium-navigate-v0"),
    ):
        command.add_argument("file", type=pathlib.Path, metavar="FILE")
        command.add_argument(
            "--id",
            required=True,
            help=f"the id to give it, which names the task, such as {example}",
        )
        command.add_argument("--force", action="store_true", help="replace a dataset of this id")

    for command in commands.choices.values():
        command.add_argument("--no-progress", action="store_true", help="show no progress bars")
    return parser


def _list(options: argparse.Namespace) -> int:
    root = datasets_root()
    rows: list[tuple[str, ...]] = [("id", "source", "steps", "episodes", "size")]
    for dataset_id in sorted({*local_ids(root), *catalog.GENERATED}):
        source = "generated" if dataset_id in catalog.GENERATED else "local"
        if not (root / dataset_id).exists():
            rows.append((dataset_id, source, "-", "-", "not made yet"))
            continue
        try:
            metadata = read_metadata(root / dataset_id)
        except UserError as error:
            print(error, file=sys.stderr)
            rows.append((dataset_id, source, "?", "?", "broken"))
            continue
        counts = [_count(metadata.get(key)) for key in ("total_steps", "total_episodes")]
        rows.append((dataset_id, source, *counts, _megabytes(root / dataset_id)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        words = [row[i].ljust(widths[i]) if i < 2 else row[i].rjust(widths[i]) for i in range(5)]
        print("  ".join(words).rstrip())
    print(
        f"in {root}; to make a generated dataset: python -m iql_jax.datasets make ID",
        file=sys.stderr,
    )
    return 0


def _make(options: argparse.Namespace) -> int:
    from iql_jax.generation.storage import is_complete

    root = datasets_root()  # Before all else: it says what to do where there is none.
    if options.id in catalog.GENERATED and is_complete(options.id) and not options.force:
        metadata = read_metadata(root / options.id)
        seed = (metadata.get("collection") or {}).get("seed", "?")
        print(
            f"{options.id} exists in {root} "
            f"({_count(metadata.get('total_steps'))} steps, seed {seed}); --force makes it again",
            file=sys.stderr,
        )
        return 0
    path = generate(
        options.id,
        steps=options.steps,
        seed=options.seed,
        progress=not options.no_progress,
        force=options.force,
    )
    print(f"{options.id} is made: {path} ({_megabytes(path)})", file=sys.stderr)
    return 0


def _import_d4rl(options: argparse.Namespace) -> int:
    from iql_jax.data.imports.d4rl import import_d4rl

    return _import(
        options,
        functools.partial(
            import_d4rl, keep_timeouts=options.keep_timeouts, time_limit=options.time_limit
        ),
    )


def _import_ogbench(options: argparse.Namespace) -> int:
    from iql_jax.data.imports.ogbench import import_ogbench

    return _import(options, functools.partial(import_ogbench, reward=options.reward))


def _import(options: argparse.Namespace, importer: Callable[..., pathlib.Path]) -> int:
    try:
        # Not by an exception out of the signal's handler: it may be lost in a library's callback.
        with StopRequest() as stop:
            path = importer(
                options.file,
                options.id,
                force=options.force,
                progress=not options.no_progress,
                check=stop.check,
            )
    except Interrupted as error:
        print(f"{error}: {options.id} is not imported", file=sys.stderr)
        return 128 + error.signum
    print(f"{options.id} is imported: {path} ({_megabytes(path)})", file=sys.stderr)
    return 0


def _check(options: argparse.Namespace) -> int:
    from iql_jax.data.checks import check_dataset

    findings = check_dataset(
        _local(options.id), progress=not options.no_progress, trusted=options.trust_environment
    )
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        # One finding a line, whatever an environment's error message holds.
        text = " ".join(finding.text.split())
        print(f"{finding.level.upper():6}  {finding.topic:{width}}  {text}")
    defects = sum(finding.level == "defect" for finding in findings)
    print(f"{options.id}: {defects or 'no'} defect{'' if defects == 1 else 's'}")
    return 1 if defects else 0


def _info(options: argparse.Namespace) -> int:
    root = datasets_root()
    if options.id in catalog.GENERATED and not (root / options.id).exists():
        maker = catalog.GENERATED[options.id]
        _say(f"{options.id} is not made yet: {maker.description}.")
        if maker.replaces is not None:
            _say(f"It replaces {maker.replaces} where that cannot be downloaded.")
        _say(f"To make it: python -m iql_jax.datasets make {options.id}")
        return 0
    path = _local(options.id)
    metadata = read_metadata(path)
    _say(f"{options.id}, {_megabytes(path)} in {path}")
    _say(str(metadata.get("description") or "No description."))
    for name in ("algorithm_name", "author", "code_permalink"):
        if metadata.get(name):
            value = metadata[name]
            words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            _say(f"{name.partition('_')[0].capitalize()}: {words}.")
    if options.id in catalog.GENERATED and catalog.GENERATED[options.id].replaces is not None:
        _say(f"Replaces: {catalog.GENERATED[options.id].replaces}.")
    for name, key in (("Collected in", "env_spec"), ("Evaluated in", "eval_env_spec")):
        if metadata.get(key):
            _say(f"{name} {_environment(metadata[key])}.")
    _describe_data(path, metadata, progress=not options.no_progress)
    return 0


def _describe_data(path: pathlib.Path, metadata: dict[str, Any], progress: bool) -> None:
    """Say in words what reading the whole dataset shows."""
    from iql_jax.data import checks

    episodes = read_episodes(path, progress)
    for finding in checks.check_data(episodes, metadata):
        flag = "" if finding.level == "ok" else f" ({finding.level})"
        _say(f"{finding.topic.capitalize()}{flag}: {finding.text}.")


def _environment(spec_json: str) -> str:
    """Describe an environment by its id, time limit and arguments."""
    try:
        spec = parse_spec(spec_json)
    except UserError as error:
        return f"an unknown environment: {error}"
    kwargs = {key: value for key, value in spec.kwargs.items() if key != "maze_map"}
    words = ", ".join(f"{key}={value}" for key, value in kwargs.items())
    return f"{spec.id}, {spec.max_episode_steps or 'unlimited'} steps at most" + (
        f" ({words})" if words else ""
    )


def _local(dataset_id: str) -> pathlib.Path:
    """The folder of a dataset that is here.

    Raises:
        UserError: if it is not; names ids like it.
    """
    root = datasets_root()
    ids = local_ids(root)
    if dataset_id in ids:
        return root / dataset_id
    if dataset_id in catalog.GENERATED:
        raise UserError(
            f"{dataset_id} is not made yet: python -m iql_jax.datasets make {dataset_id} makes it"
        )
    message = f"dataset {dataset_id!r} is not in {root}"
    close = difflib.get_close_matches(dataset_id, [*ids, *catalog.GENERATED], n=3, cutoff=0.5)
    if close:
        message += f"; did you mean {' or '.join(close)}?"
    raise UserError(f"{message}; `minari download ID` downloads, `list` shows what is here")


def _count(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else "?"


def _megabytes(path: pathlib.Path) -> str:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return f"{size / 1e6:,.1f} MB"


def _say(text: str) -> None:
    print(textwrap.fill(text, _WIDTH, subsequent_indent="    ", break_long_words=False))


if __name__ == "__main__":
    sys.exit(main())
