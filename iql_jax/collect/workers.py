"""Tasks spread over the cores of the machine, their results in the order of the tasks.

Worker processes come from a fork server, which never forks a process that runs JAX's threads.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import TypeVar

from iql_jax.errors import UserError
from iql_jax.processes import start_method

Task = TypeVar("Task")
Result = TypeVar("Result")


_CHECK_SECONDS = 0.2


def never_stop() -> None:
    """Let the work go on: what to check where nothing asks for a stop."""


def run_in_order(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int,
    check: Callable[[], None] = never_stop,
) -> Generator[Result, None, None]:
    """Run a function on every task and yield the results in the order of the tasks.

    Args:
        function: what to run; importable by name, as are its argument and result.
        tasks: its arguments.
        workers: the number of processes; 1 runs everything in this one.
        check: called several times a second while processes are waited for, and before each task
            in this process; it stops the work by raising.

    Yields:
        The results. When the iteration is left early the processes end at once, in the middle of
        their tasks.

    Raises:
        UserError: if a process is killed.
    """
    if workers == 1:
        for task in tasks:
            check()
            yield function(task)
        return
    check()
    executor = ProcessPoolExecutor(
        max_workers=min(workers, len(tasks)),
        mp_context=multiprocessing.get_context(start_method()),
        initializer=_start_worker,
    )
    others = set(multiprocessing.active_children())
    try:
        with _interrupts_deferred():  # The processes are started here.
            futures = [executor.submit(function, task) for task in tasks]
        for future in futures:
            while not wait([future], timeout=_CHECK_SECONDS).done:
                check()
            yield future.result()
    except BrokenProcessPool as error:
        raise UserError("a worker process was killed; was there too little memory?") from error
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until processes are started, and keep Ctrl-C from these.

    A terminal sends Ctrl-C to all processes; those started in the block inherit that it is blocked.
    In this one, an exception halfway through a start would leave a process that nobody knows.
    """
    arrived: list[int] = []
    previous = {}
    if threading.current_thread() is threading.main_thread():  # Only it gets the exceptions.
        for signum in (signal.SIGINT, signal.SIGTERM):
            previous[signum] = signal.signal(signum, lambda number, _: arrived.append(number))
    masks = hasattr(signal, "pthread_sigmask")  # Not on Windows.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masks else None
    try:
        yield
    finally:
        if blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for signum, handler in previous.items():
            signal.signal(signum, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it even where it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
