"""How many worker processes this machine carries, and how they are started."""

import os


def available_cores() -> int:
    """The number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Not on macOS.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_method() -> str:
    """Never 'fork': JAX's threads may hold locks."""
    return "forkserver"
