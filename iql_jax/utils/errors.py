"""The one exception that a user can act on, its kinds, and the two that the machine causes."""

import errno
import os


class UserError(Exception):
    """A failure that the user can act on.

    The message is one line that says what is wrong, where, and what to do. Entry points print it
    without a traceback and exit with status 1, as they do for the system's own errors (files,
    memory); anything else that escapes is a bug and keeps its traceback.
    """


class NoEnvironment(UserError):
    """An environment that is not installed or does not run; offline training does without."""


class UntrustedEnvironment(NoEnvironment):
    """An environment whose code may not run until the user says so."""


class Diverged(UserError):
    """Training came to numbers that are not finite: there is no state to continue from."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host's memory ran out, or a device's."""
    # XLA's error starts with its code. (TensorStore has the same for a full disk, in a ValueError.)
    is_xlas = isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return isinstance(error, MemoryError) or is_xlas


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of the system, Orbax or TensorStore means that no space is left."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError) and error.errno in codes:
        return True
    return any(os.strerror(code) in str(error) for code in codes)


def one_line(error: Exception) -> str:
    """An exception's kind and message, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
