"""What the program says to a person: on standard error, and never through a progress bar."""

import sys

from tqdm import tqdm

_muted = False


def say(message: str) -> None:
    """Print one line on standard error, above any progress bar."""
    if not _muted:
        tqdm.write(message, file=sys.stderr)


def mute(muted: bool) -> None:
    """Say nothing from now on: of several processes that run one program, one speaks."""
    global _muted
    _muted = muted
