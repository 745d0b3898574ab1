"""What every command shares: parsing that fails in one line, and exit statuses."""

import functools
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from absl import app, flags, logging

from iql_jax.training import config
from iql_jax.utils.errors import UserError, is_out_of_memory
from iql_jax.utils.signals import Interrupted

Returned = TypeVar("Returned")


MORE_MEMORY = "free some, or take a machine with more"
"""What to do where memory ran out, of programs that have no flag that would help."""


def run(main: Callable[[list[str]], None], memory_advice: str = MORE_MEMORY) -> None:
    """Run an absl program; a failure that the user can mend is one line and status 1 or 2.

    Args:
        main: Is given the arguments that are no flags.
        memory_advice: What the user can do where memory ran out.
    """
    # Orbax tells of each file it touches at the level of information.
    logging.set_verbosity(logging.WARNING)
    signal.signal(signal.SIGTERM, _terminate)
    app.run(
        lambda argv: guard(functools.partial(main, argv), memory_advice),
        flags_parser=_parse_flags,
    )


def read_config(flag_value: Any, kind: type[config.Settings]) -> config.Settings:
    """The settings of a ``--config`` flag, checked; ``kind`` says which keys there are.

    Raises:
        UserError: If there is no config file, or it sets something wrong.
    """
    if flag_value is None:
        raise UserError("no --config given; for example --config=configs/pointmaze.py")
    try:
        settings = flag_value.to_dict()
    # ml_collections stands in for a file it could not open with an object that raises on use.
    except Exception as error:
        raise UserError(f"--config: {_one_line(error)}") from error
    if config.kind_of(settings) is not kind:
        is_offline = kind is config.FinetuneConfig
        what = ("offline runs", "offline") if is_offline else ("fine-tuning", "finetune")
        raise UserError(f"--config is a config of {what[0]}; use train_{what[1]}.py")
    return config.from_mapping(settings, kind)


def workdir(flag_value: str | None, dataset: str, name: str) -> Path:
    """The folder that ``--workdir`` names, or else runs/DATASET/NAME."""
    # Of --workdir=~/runs most shells leave the ~ to the program.
    return Path(flag_value or f"runs/{dataset.replace('/', '-')}/{name}").expanduser()


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        remaining = list(flags.FLAGS(argv))
    except flags.Error as error:
        _exit(2, _one_line(error))
    # A config file is the user's own code: anything may come out of it.
    except Exception as error:
        if isinstance(error, AttributeError) and error.name == "get_config":
            _exit(2, "the config file fails: it defines no get_config()")
        raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
        if isinstance(error, AttributeError) and "ml_collections" in raised_in:
            # What a locked ConfigDict raises for a key it does not have, the first that it quotes.
            key = re.search(r"'(\w+)'", str(error))
            if key is not None and config.is_of_fine_tuning(key[1]):
                _exit(
                    2,
                    f"config key {key[0]} is one of fine-tuning: it needs train_finetune.py and a "
                    "config such as configs/pointmaze_finetune.py",
                )
            _exit(2, f"unknown config key: {_one_line(error)}")
        _exit(2, f"the config file fails with {type(error).__name__}: {_one_line(error)}")
    # Flags alone are read: what only looks like one would change nothing, and nobody would know.
    if len(remaining) > 1:
        _exit(2, f"unexpected argument {remaining[1]!r}; flags are --name=value, without spaces")
    return remaining


def guard(main: Callable[[], Returned], memory_advice: str = MORE_MEMORY) -> Returned:
    """Call a program's main function; what the user can mend ends the program with one line."""
    try:
        return main()
    except (Exception, KeyboardInterrupt) as error:
        resume = f"resume with: {shlex.join([sys.executable, *sys.argv])}"
        told = explain(error, resume, memory_advice)
        if told is None:
            raise
        _exit(*told)


def explain(
    error: BaseException, resume: str, memory_advice: str = MORE_MEMORY
) -> tuple[int, str] | None:
    """The exit status and the line of what ends a program and the user can mend; None for a bug.

    Args:
        error: What ended it.
        resume: What to say of how to go on, where there is something to go on with.
        memory_advice: What to say where memory ran out.
    """
    match error:
        case UserError():
            return 1, _one_line(error)
        case Interrupted():
            return 128 + error.signum, f"{error}; {resume}" if error.resumable else str(error)
        case KeyboardInterrupt():
            return 128 + signal.SIGINT, "interrupted"
        # A path that cannot be written, a full disk: the system's own words say it.
        case OSError() if error.strerror is not None:
            return 1, error.strerror + (f": {error.filename}" if error.filename else "")
        case _ if is_out_of_memory(error):
            reason = str(error).strip().partition("\n")[0]
            return 1, f"out of memory{reason and f' ({reason})'}; {memory_advice}"
    return None


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    """Leave by an exception, so that what is under way cleans up behind itself."""
    _exit(128 + signum, "stopped by SIGTERM")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _exit(status: int, message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)
