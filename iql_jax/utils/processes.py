"""How many worker processes this machine carries, and how they are started."""

import multiprocessing
import os

from iql_jax.utils.errors import UserError


def available_cores() -> int:
    """The number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Not on macOS.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def refuse_second_import() -> None:
    """Stop a worker process that does, while it starts, what the main program does.

    Workers import the main program, and a script that is not written for it begins there anew. It
    must not come to wait for its own parent.

    Raises:
        UserError: in such a process.
    """
    # As Python's own check before a process starts another one.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UserError(
            "worker processes import the program that starts them: put what your script does "
            "below `if __name__ == '__main__':`"
        )


def start_method() -> str:
    """Never 'fork': JAX's threads may hold locks."""
    return "forkserver"
