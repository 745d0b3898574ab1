"""The one exception that a user's mistake may cause, its kinds, and the want of memory."""


class UserError(Exception):
    """A failure the user can act on.

    The message is one line that says what is wrong, where, and what to do. Entry points print it
    without a traceback and exit with status 1, as they do for the system's own refusals (files,
    memory); anything else that escapes is a bug and keeps its traceback.
    """


class NoEnvironment(UserError):
    """An environment that cannot be had or run, though what is computed without it may well."""


class UntrustedEnvironment(NoEnvironment):
    """An environment whose code may not be run until the user says so."""


class Diverged(UserError):
    """Training has come to numbers that are not finite: no state to go on from."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host's memory ran out, or a device's."""
    # XLA's error begins with its code. (TensorStore has the same for a full disk, in a ValueError.)
    is_xlas = isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return isinstance(error, MemoryError) or is_xlas
