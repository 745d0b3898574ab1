"""The package's logger: one line on standard error, never through a progress bar."""

import logging
import sys

from tqdm import tqdm


class _AboveBars(logging.Handler):
    """Writes each message as a line above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


logger = logging.getLogger("iql_jax")
logger.setLevel(logging.INFO)
logger.propagate = False  # absl's root handler would print each line a second time.
if not logger.handlers:
    logger.addHandler(_AboveBars())
