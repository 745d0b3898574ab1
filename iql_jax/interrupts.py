"""Ctrl-C and SIGTERM as a request to stop at the next safe point."""

import signal
from types import FrameType


class Interrupted(Exception):
    """Training stopped at a request, with everything saved.

    Attributes:
        signum: The signal that asked for it.
        message: One line: where training stopped and where it was saved.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message or f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class StopRequest:
    """A context in which the first SIGINT or SIGTERM only raises a flag.

    A second Ctrl-C stops at once: the handlers in force before are restored at the first.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def __enter__(self) -> "StopRequest":
        """Take over the two signals."""
        self._previous = {
            signum: signal.signal(signum, self._note) for signum in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Give the signals back."""
        self._restore()

    def check(self) -> None:
        """Raise ``Interrupted`` if a signal has come."""
        if self.signum is not None:
            raise Interrupted(self.signum)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
