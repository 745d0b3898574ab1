"""Flags, failures in one line and exit statuses, for all commands."""

import os
import re
import runpy
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import jax
from absl import app, flags, logging

from iql_jax.training import config
from iql_jax.training.compilation import keep_programs
from iql_jax.training.presets import beside_package, preset_file
from iql_jax.utils.console import LastingStream
from iql_jax.utils.errors import MORE_MEMORY, UserError, as_line, explain, one_line

Returned = TypeVar("Returned")


def run(main: Callable[[list[str]], None], memory_advice: str = MORE_MEMORY) -> None:
    """Runs an absl program; a failure that the user can fix is one line and status 1 or 2."""
    sys.stderr = LastingStream(sys.stderr)
    logging.set_verbosity(logging.WARNING)  # Orbax logs each file that it touches.
    signal.signal(signal.SIGTERM, _terminate)
    keep_programs()
    app.run(lambda argv: guard(lambda: main(argv), memory_advice), flags_parser=_parse_flags)


def train_offline() -> None:
    """Runs train_offline.py, as the command iql-train-offline."""
    runpy.run_path(str(beside_package("train_offline.py")), run_name="__main__")


def train_finetune() -> None:
    """Runs train_finetune.py, as the command iql-train-finetune."""
    runpy.run_path(str(beside_package("train_finetune.py")), run_name="__main__")


def read_config(flag_value: Any, kind: type[config.Settings]) -> config.Settings:
    """Returns the checked settings of a ``--config`` flag; ``kind`` says which keys there are."""
    if flag_value is None:
        raise UserError("no --config given; for example --config=pointmaze")
    try:
        settings = flag_value.to_dict()
    # ml_collections stands in for a file it could not open with an object that raises on use.
    except Exception as error:
        raise UserError(f"--config: {error}") from error
    if config.kind_of(settings) is not kind:
        other = "train_offline.py" if kind is config.FinetuneConfig else "train_finetune.py"
        raise UserError(f"--config is a config of another program; use {other}")
    return config.from_mapping(settings, kind)


def workdir(flag_value: str | None, dataset: str, name: str) -> Path:
    """Returns the folder that ``--workdir`` names, or else runs/DATASET/NAME."""
    return Path(flag_value or f"runs/{dataset.replace('/', '-')}/{name}").expanduser()


def guard(main: Callable[[], Returned], memory_advice: str = MORE_MEMORY) -> Returned:
    """Calls a program's main function; a failure that the user can fix exits with one line."""
    try:
        return main()
    except (Exception, KeyboardInterrupt) as error:
        resume = f"resume with: {shlex.join([sys.executable, *sys.argv])}"
        if (explained := explain(error, resume, memory_advice)) is None:
            raise
        _exit(*explained)


def _parse_flags(argv: list[str]) -> list[str]:
    # ml_collections joins the tuples of a key that is given twice; as of all keys, the last counts.
    last = {argument.partition("=")[0]: i for i, argument in enumerate(argv)}
    argv = [a for i, a in enumerate(argv) if last[a.partition("=")[0]] == i or "=" not in a]
    argv = guard(lambda: [_with_file(argument) for argument in argv])
    try:
        remaining = list(flags.FLAGS(argv))
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and "absl" in Path(_raised_in(error)).parts:  # --help.
            raise
        _exit(2, _flag_failure(error))
    # Flags alone are read: what only looks like one would change nothing, and nobody would know.
    if len(remaining) > 1:
        _exit(2, f"unexpected argument {remaining[1]!r}; flags are --name=value, without spaces")
    return remaining


def _with_file(argument: str) -> str:
    """Replaces the name of a config by its file."""
    flag, _, name = argument.partition("=")
    is_name = flag in ("--config", "-config") and re.fullmatch(r"\w+", name)
    return f"{flag}={preset_file(name)}" if is_name else argument


def _flag_failure(error: BaseException) -> str:
    """Returns the line for an error in a flag or a config file: that is the user's own code."""
    if isinstance(error, flags.Error):
        return str(error)
    is_lookup = isinstance(error, AttributeError) and "ml_collections" in _raised_in(error)
    # A locked ConfigDict quotes the missing key first, and then the one like it.
    key = re.search(r"'(\w+)\\?'", str(error)) if is_lookup else None
    if key is None or key[1] == "get_config":
        return f"the config file fails with {one_line(error)}"
    if config.is_of_fine_tuning(key[1]):
        return f"config key {key[1]!r} is one of fine-tuning; use train_finetune.py and its configs"
    like = re.search(r'Did you mean "(\w+)"', str(error))
    return f"unknown config key {key[1]!r}{f'; did you mean {like[1]!r}?' if like else ''}"


def _raised_in(error: BaseException) -> str:
    return traceback.extract_tb(error.__traceback__)[-1].filename


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    """Leaves by an exception, so that everything in progress cleans up."""
    _exit(128 + signum, "stopped by SIGTERM")


def _exit(status: int, message: str) -> NoReturn:
    print(as_line(message), file=sys.stderr, flush=True)
    if jax.distributed.is_initialized():
        os._exit(status)  # JAX's own end waits for the others, who may wait for this process.
    sys.exit(status)
