"""Commands that a benchmark waits for; needs nothing but Python."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def output_of(
    command: Sequence[str],
    name: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command to its end; what it printed.

    A command that fails ends the program, with what it said and status 1.

    Args:
        command: with its arguments.
        name: what a message calls it.
        folder: where it runs; by default here.
        environment: its environment variables; by default this program's.
    """
    process = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if process.returncode != 0:
        sys.exit(f"{name} failed:\n{process.stderr}")
    return process.stdout
