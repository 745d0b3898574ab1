"""Ctrl-C and SIGTERM as a request to stop at the next safe point."""

import contextlib
import functools
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Interrupted(Exception):
    """Work stopped at the request of a signal.

    Attributes:
        signum: The signal that asked for it.
        resumable: Whether everything is saved, so that the same command goes on from here.
    """

    def __init__(self, signum: int, message: str = "", *, resumable: bool = False) -> None:
        super().__init__(message or f"stopped by {signal.Signals(signum).name}")
        self.signum = signum
        self.resumable = resumable

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle, with the argument that is a keyword: a worker's comes to its driver."""
        make = functools.partial(type(self), resumable=self.resumable)
        return make, (self.signum, str(self))


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block has ended."""
    arrived: list[int] = []
    previous = {}
    if threading.current_thread() is threading.main_thread():  # Only it gets the exceptions.
        for signum in (signal.SIGINT, signal.SIGTERM):
            previous[signum] = signal.signal(signum, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
        for number in arrived:
            signal.raise_signal(number)


class StopRequest:
    """A context in which the first SIGINT or SIGTERM only raises a flag.

    A second Ctrl-C stops at once, or at the end of ``signals_deferred``: the handlers in force
    before are restored at the first.

    Args:
        resumable: Whether everything is saved when it begins.
    """

    def __init__(self, *, resumable: bool = False) -> None:
        self.signum: int | None = None
        self._resumable = resumable
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        """Take over the two signals."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._previous[signum] = signal.getsignal(signum)
            signal.signal(signum, self._note)
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Give the signals back."""
        self._restore()

    def check(self) -> None:
        """Raise ``Interrupted`` if a signal has come."""
        if self.signum is not None:
            raise Interrupted(self.signum, resumable=self._resumable)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
