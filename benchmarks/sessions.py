"""Sessions of one run, each in a process of its own: killed, or brought to their end."""

import contextlib
import csv
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from iql_jax.outputs.logs import TIMED
from runs import ROOT


def start(command: Sequence[str]) -> subprocess.Popen[str]:
    """Start, or resume, the run."""
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def finish(command: Sequence[str]) -> str:
    """Run to the end, or end the program if that fails; what it said."""
    process = start(command)
    said = process.communicate()[1]
    if process.returncode != 0:
        sys.exit(f"the run failed:\n{said}")
    return said


def kill_after(command: Sequence[str], seconds: float) -> str:
    """Start the run and kill it; what it said until then."""
    with start(command) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=seconds)
        return kill(process)


def kill(process: subprocess.Popen[str]) -> str:
    """Kill a session, or end the program if it has failed by itself; what it said."""
    status = process.poll()
    process.kill()
    said = process.communicate()[1]
    if status not in (None, 0):
        sys.exit(f"a session failed before it was killed:\n{said}")
    return said


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table without the columns of time; none if there is no table yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {name: cell for name, cell in row.items() if name not in TIMED}
            for row in csv.DictReader(file)
        ]
