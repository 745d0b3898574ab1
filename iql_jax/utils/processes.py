"""Worker processes: how many this machine carries, and how they start and end.

Workers import this module before any other of the package, so it imports no NumPy.
"""

import collections
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from iql_jax.utils.errors import UserError

T = TypeVar("T")

START_METHOD = "forkserver"
"""Never 'fork': JAX's threads may hold locks."""

_CHECK_SECONDS = 0.1
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def available_cores() -> int:
    """Returns the number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Not on macOS.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """A pool of processes that start as they get work, and end with their owner however it ends.

    ``advice`` follows the error of a worker that dies.
    """

    def __init__(self, count: int, advice: str = "") -> None:
        self._count, self._advice = count, advice
        self._leash: Connection | None = None
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, function: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Calls a function in a worker."""
        with main_module_hidden():
            if self._pool is None:
                context = multiprocessing.get_context(START_METHOD)
                leash, self._leash = context.Pipe(duplex=False)
                self._pool = ProcessPoolExecutor(self._count, context, prepare_worker, (leash,))
            return self._pool.submit(function, *arguments)

    def results(
        self, futures: Iterable["Future[T]"], check: Callable[[], None] = lambda: None
    ) -> Iterator[T]:
        """Yields results in order, and meanwhile calls ``check`` several times a second.

        Any failure, also one of ``check``, ends the workers in the midst of their calls; others
        start with the next call.

        Raises:
            UserError: If a worker dies.
        """
        try:
            pending = collections.deque(futures)  # Results that have been used are forgotten.
            while pending:
                future = pending.popleft()
                check()
                while not wait([future], _CHECK_SECONDS).done:
                    check()
                yield future.result()
        except BaseException as error:
            self.close()
            if isinstance(error, BrokenProcessPool):
                check()  # A signal to the whole process group ends the workers first.
                raise UserError(
                    "a worker process ended without a word (killed, or out of memory?)"
                    + self._advice
                ) from error
            raise

    def close(self) -> None:
        """Ends the workers, whatever they are doing; may be called again."""
        if self._pool is not None and self._leash is not None:
            self._leash.close()
            self._pool.shutdown(cancel_futures=True)
        self._pool = self._leash = None


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
    which reaches the whole process group, to its owner. Where it has a ``leash``, the reading end
    of a pipe, it ends when the other end is closed, also by its owner's death.
    """
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if leash is not None:
        threading.Thread(target=_end_with, args=(leash,), daemon=True).start()


def _end_with(leash: Connection) -> None:
    connection.wait([leash])
    os._exit(1)
