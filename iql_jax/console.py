"""What the program says to a person: on standard error, and never through a progress bar."""

import sys

from tqdm import tqdm


def say(message: str) -> None:
    """Print one line on standard error, above any progress bar."""
    tqdm.write(message, file=sys.stderr)
