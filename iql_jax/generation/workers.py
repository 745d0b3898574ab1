"""Tasks spread over the cores of the machine, their results in the order of the tasks.

Worker processes come from a fork server, which never forks a process that runs JAX's threads.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import TypeVar

from iql_jax.utils.errors import UserError
from iql_jax.utils.processes import start_method
from iql_jax.utils.signals import signals_deferred

Task = TypeVar("Task")
Result = TypeVar("Result")


_CHECK_SECONDS = 0.2


def never_stop() -> None:
    """Let the work go on: what to check where nothing asks for a stop."""


@contextlib.contextmanager
def run_in_order(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int,
    check: Callable[[], None] = never_stop,
) -> Iterator[Iterator[Result]]:
    """Run a function on every task, for a block that iterates over the results.

    Args:
        function: what to run; importable by name, as are its argument and result.
        tasks: its arguments.
        workers: the number of processes, which begin at once; 1 runs each task in this one, when
            its result is asked for.
        check: called several times a second while processes are waited for, and before each task
            in this process; it stops the work by raising.

    Yields:
        The results in the order of the tasks. When the block is left early the processes end at
        once, in the middle of their tasks.

    Raises:
        UserError: if a process is killed.
    """
    if workers == 1 or not tasks:
        yield _run_here(function, tasks, check)
        return
    check()
    executor = ProcessPoolExecutor(
        max_workers=min(workers, len(tasks)),
        mp_context=multiprocessing.get_context(start_method()),
        initializer=_start_worker,
    )
    others = set(multiprocessing.active_children())
    futures: list[Future[Result]] = []
    try:
        with _interrupts_deferred():  # The processes are started here.
            futures += [executor.submit(function, task) for task in tasks]
        yield _results(futures, check)
    except BrokenProcessPool as error:
        check()  # A signal to the whole group of processes kills them.
        raise UserError(
            "a worker process ended without a result; what it said is above, and if it said "
            "nothing it was killed: was there too little memory?"
        ) from error
    finally:
        if not all(future.done() for future in futures):
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
        executor.shutdown(wait=True, cancel_futures=True)


def _run_here(
    function: Callable[[Task], Result], tasks: Sequence[Task], check: Callable[[], None]
) -> Iterator[Result]:
    for task in tasks:
        check()
        yield function(task)


def _results(futures: Sequence[Future[Result]], check: Callable[[], None]) -> Iterator[Result]:
    for future in futures:
        while not wait([future], timeout=_CHECK_SECONDS).done:
            check()
        yield future.result()


@contextlib.contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until processes are started, and keep Ctrl-C from these.

    A terminal sends Ctrl-C to all processes; those started in the block inherit that it is blocked.
    In this one, an exception halfway through a start would leave a process that nobody knows.
    """
    with signals_deferred():
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it even where it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
