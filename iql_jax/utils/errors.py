"""The one exception that a user can act on, its kinds, and the two that the machine causes."""

import errno
import os
import signal

from iql_jax.utils.signals import Interrupted

MORE_MEMORY = "free some, or use a machine with more"  # Where no flag of a program would help.


class UserError(Exception):
    """A failure that the user can fix; its one line says what is wrong, where, and what to do."""


class NoEnvironment(UserError):
    """An environment that is not installed or does not run; offline training does without."""


class UntrustedEnvironment(NoEnvironment):
    """An environment whose code may not run until the user says so."""


class Diverged(UserError):
    """Training came to numbers that are not finite: there is no state to continue from."""


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether the host's memory ran out, or a device's."""
    # XLA's error starts with its code. (TensorStore has the same for a full disk, in a ValueError.)
    is_xlas = isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return isinstance(error, MemoryError) or is_xlas


def is_disk_full(error: BaseException) -> bool:
    """Returns whether an error of the system, Orbax or TensorStore means that no space is left."""
    return any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))


def as_line(text: str) -> str:
    """Returns a text on one line, with escapes in place of what no terminal should get."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))


def one_line(error: BaseException) -> str:
    """Returns an exception's kind and message, on one line."""
    text = as_line(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def explain(
    error: BaseException, resume: str, memory_advice: str = MORE_MEMORY
) -> tuple[int, str] | None:
    """Returns the exit status and the line of a failure that the user can fix; None for a bug."""
    match error:
        case UserError():
            return 1, as_line(str(error))
        case Interrupted():
            return 128 + error.signum, f"{error}; {resume}" if error.resumable else str(error)
        case KeyboardInterrupt():
            return 128 + signal.SIGINT, "interrupted"
        # A path that cannot be written, a full disk: the system's own words say it.
        case OSError() if error.strerror is not None:
            return 1, as_line(error.strerror + (f": {error.filename}" if error.filename else ""))
        case _ if is_out_of_memory(error):
            reason = str(error).partition("\n")[0]
            return 1, f"out of memory{reason and f' ({reason})'}; {memory_advice}"
    return None
