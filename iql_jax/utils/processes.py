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
import traceback
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple, TypeVar

from iql_jax.utils.errors import UserError

T = TypeVar("T")

START_METHOD: Final = "forkserver"
"""Never 'fork': JAX's threads may hold locks."""

_CHECK_SECONDS = 0.1
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def cores() -> list[int]:
    """Returns the numbers of the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Not on macOS.
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def available_cores() -> int:
    """Returns how many processor cores this process may use."""
    return len(cores())


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


class CoreProcess:
    """A process that calls one function, on a core of its own, and sends what becomes of it.

    ``function(send, *arguments)`` may send messages; what it returns or raises is the last one, as
    ``Returned`` or an exception. They arrive at ``connection``.
    """

    def __init__(self, core: int, function: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context(START_METHOD)
        leash, self._leash = context.Pipe(duplex=False)
        self.core, (self.connection, theirs) = core, context.Pipe()
        self._process = context.Process(target=_call_on_core, args=(core, leash, theirs))
        with main_module_hidden():
            self._process.start()
        theirs.close()
        self.connection.send((function, arguments))  # Read once its threads are limited.

    def stop(self) -> None:
        """Sends SIGTERM."""
        self._process.terminate()

    def join(self) -> None:
        """Waits for the end of a process that has sent its last message."""
        self._process.join()
        self.close()

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._leash.close()
        self._process.join()
        self.connection.close()


class Returned(NamedTuple):
    """The last message of a ``CoreProcess`` that did not fail."""

    value: Any


def _call_on_core(core: int, leash: Connection, connection: Connection) -> None:
    prepare_worker(leash)
    if hasattr(os, "sched_setaffinity"):  # Not on macOS.
        os.sched_setaffinity(0, {core})
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (the owner speaks for all)
    function, arguments = connection.recv()
    try:
        last: Any = Returned(function(connection.send, *arguments))
    except Exception as error:
        error.add_note(traceback.format_exc())
        last = error
    connection.send(last)


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
