"""Worker processes: how many this machine carries, and how they start and end.

Workers import this module before any other of the package, so it imports no NumPy.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait

from iql_jax.utils.errors import UserError

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


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


@contextlib.contextmanager
def main_module_hidden() -> Iterator[None]:
    """Keep processes that are started in the block from importing the program's main module.

    multiprocessing has each of them import it, for functions defined there. An entry point imports
    JAX: seconds and 150 MB a process, for nothing.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def prepare_worker(owner: Connection | None = None) -> None:
    """Set up this process as a worker; call it before NumPy is imported.

    Its linear algebra stays on one thread, for there is one worker a core, and it leaves Ctrl-C,
    which reaches the whole process group, to the process that owns it.

    Args:
        owner: The reading end of a pipe. The worker ends when the other end is closed, also by its
            owner's death.
    """
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if owner is not None:
        threading.Thread(target=_end_with, args=(owner,), daemon=True).start()


def _end_with(owner: Connection) -> None:
    wait([owner])
    os._exit(1)
