"""What every command shares: parsing that fails in one line, and exit statuses."""

import functools
import shlex
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from absl import app, flags, logging

from iql_jax import config
from iql_jax.checkpointing import is_disk_full
from iql_jax.errors import UserError
from iql_jax.interrupts import Interrupted


def run(main: Callable[[list[str]], None]) -> None:
    """Run an absl program; a failure that the user can mend is one line and status 1 or 2."""
    # Orbax tells of each file it touches at the level of information.
    logging.set_verbosity(logging.WARNING)
    app.run(functools.partial(_guarded, main), flags_parser=_parse_flags)


def read_config(flag_value: Any) -> config.Config:
    """The settings of a ``--config`` flag, checked.

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
    return config.from_mapping(settings)


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        return list(flags.FLAGS(argv))
    except flags.Error as error:
        _exit(2, _one_line(error))
    except AttributeError as error:
        if error.name == "get_config":
            _exit(2, "the config file fails: it defines no get_config()")
        # What a locked ConfigDict raises for a key it does not have.
        _exit(2, f"unknown config key: {_one_line(error)}")
    except KeyboardInterrupt:
        raise
    # A config file is the user's own code: anything may come out of it.
    except Exception as error:
        _exit(2, f"the config file fails with {type(error).__name__}: {_one_line(error)}")


def _guarded(main: Callable[[list[str]], None], argv: list[str]) -> None:
    try:
        main(argv)
    except UserError as error:
        _exit(1, _one_line(error))
    except Interrupted as error:
        command = shlex.join([sys.executable, *sys.argv])
        _exit(128 + error.signum, f"{error}; the same command resumes: {command}")
    except KeyboardInterrupt:
        _exit(130, "interrupted")
    except OSError as error:
        if not is_disk_full(error):
            raise
        _exit(1, f"no space left on the disk: {_one_line(error)}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _exit(status: int, message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)
