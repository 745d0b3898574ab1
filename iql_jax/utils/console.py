"""The package's logger: one line on standard error, never through a progress bar."""

import contextlib
import logging
import os
import sys
from typing import Any, TextIO

from tqdm import tqdm


class LastingStream:
    """A stream whose reader may go: what is then written to it is lost, and nothing fails."""

    def __init__(self, stream: TextIO | None) -> None:
        # Python has none where it is closed. Another file takes its number, before one of a run's.
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115 (for good)

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._stream, name)

        def attempt(*arguments: Any) -> Any:
            with contextlib.suppress(OSError):
                return member(*arguments)

        return attempt if name in ("write", "flush") else member


class _AboveBars(logging.Handler):
    """Writes each message as a line above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


logger = logging.getLogger("iql_jax")
logger.setLevel(logging.INFO)
logger.propagate = False  # absl's root handler would print each line a second time.
if not logger.handlers:
    logger.addHandler(_AboveBars())
