"""Ctrl-C and SIGTERM as a request to stop at the next safe point."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """Work stopped at the request of a signal.

    Where ``resumable``, everything is saved, and the same command resumes.
    """

    def __init__(self, signum: int, message: str = "", resumable: bool = False) -> None:
        message = message or f"stopped by {signal.Signals(signum).name}"
        super().__init__(signum, message, resumable)  # Pickling passes these on.
        self.signum, self.message, self.resumable = signum, message, resumable

    def __str__(self) -> str:
        return self.message


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM wait until the block has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers in the main thread alone.
        return
    arrived: list[int] = []
    previous = {s: signal.signal(s, lambda number, _: arrived.append(number)) for s in _SIGNALS}
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
        for number in arrived:
            signal.raise_signal(number)


class StopRequest:
    """A context in which the first SIGINT or SIGTERM only raises a flag.

    It also restores the handlers in force before, so that a second Ctrl-C stops at once, or at the
    end of ``signals_deferred``. Where ``resumable``, the error says that the same command resumes.
    """

    def __init__(self, *, resumable: bool = False) -> None:
        self.signum: int | None = None
        self._resumable = resumable
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # Elsewhere no signal arrives.
            self._previous = {signum: signal.signal(signum, self._note) for signum in _SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def check(self) -> None:
        """Raises ``Interrupted`` if a signal has come."""
        if self.signum is not None:
            raise Interrupted(self.signum, resumable=self._resumable)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
