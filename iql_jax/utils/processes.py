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
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import ProcessPoolExecutor
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

T = TypeVar("T")

START_METHOD = "forkserver"
"""Never 'fork': JAX's threads may hold locks."""

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def available_cores() -> int:
    """Returns the number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Not on macOS.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """A pool of processes that start as they get work, and end with their owner however it ends.

    What is sent to them should be small: a pool that is given more than its pipe holds may hang
    when its workers end.

    Args:
        count: The most processes.
    """

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context(START_METHOD)
        leash, self._leash = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(count, context, prepare_worker, (leash,))

    def submit(self, function: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Calls a function in a worker.

        Raises:
            BrokenProcessPool: If a worker has died; also raised by the results of calls.
        """
        with main_module_hidden():
            return self._pool.submit(function, *arguments)

    def close(self) -> None:
        """Ends the workers, whatever they are doing; may be called again."""
        self._leash.close()
        self._pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def main_module_hidden() -> Iterator[None]:
    """Keeps processes that are started in the block from importing the program's main module.

    multiprocessing has each of them import it, for functions defined there. An entry point imports
    JAX: seconds and 150 MB a process, for nothing.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def prepare_worker(leash: Connection | None = None) -> None:
    """Sets up this process as a worker; call it before NumPy is imported.

    Its linear algebra stays on one thread, for there is one worker a core, and it leaves Ctrl-C,
    which reaches the whole process group, to its owner.

    Args:
        leash: The reading end of a pipe. The worker ends when the other end is closed, also by its
            owner's death.
    """
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if leash is not None:
        threading.Thread(target=_end_with, args=(leash,), daemon=True).start()


def _end_with(leash: Connection) -> None:
    wait([leash])
    os._exit(1)
