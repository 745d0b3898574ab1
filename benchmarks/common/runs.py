"""Runs of the entry points as anyone would start them: in processes and folders of their own.

Everything known of a run is read from its folder, so that the benchmarks need nothing of the
package's insides.
"""

import csv
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

TIMED = ("wall_seconds", "eval_seconds", "updates_per_second", "env_steps_per_second")
"""The columns in which runs of the same numbers differ."""


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run of train_offline.py or train_finetune.py.

    Attributes:
        folder: its ``--workdir``; its log lies beside it.
        config: the name of its config file in configs/.
        settings: the keys that it overrides.
        flags: further words of its command.
        evaluated: what a longer evaluation found, in place of its summary's.
    """

    folder: Path
    config: str
    settings: Mapping[str, Any]
    flags: Sequence[str] = ()
    evaluated: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def log(self) -> Path:
        """The file of what its processes print."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def command(self) -> list[str]:
        """Returns what starts it, or resumes it."""
        script = "train_finetune.py" if self.config.endswith("_finetune") else "train_offline.py"
        return [
            sys.executable,
            script,
            f"--config=configs/{self.config}.py",
            f"--workdir={self.folder.absolute()}",
            *(f"--config.{key}={setting}" for key, setting in self.settings.items()),
            "--config.progress=False",
            *self.flags,
        ]

    def summary(self) -> dict[str, Any] | None:
        """Returns its ``summary.json``; None until it is finished."""
        path = self.folder / "summary.json"
        return {**json.loads(path.read_text()), **self.evaluated} if path.exists() else None

    def recorded(self) -> dict[str, Any]:
        """Returns the settings of its run record."""
        return dict(json.loads((self.folder / "config.json").read_text())["config"])

    def table(self, name: str) -> list[dict[str, float | None]]:
        """Returns the rows of one of its tables, such as 'evaluations'."""
        rows = read_rows(self.folder / f"{name}.csv")
        return [{key: float(cell) if cell else None for key, cell in row.items()} for row in rows]


def read_rows(path: Path, leave_out: Sequence[str] = ()) -> list[dict[str, str]]:
    """Returns the complete rows of a CSV table as text; none where there is no file yet."""
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]  # A kill may tear the last line.
    rows = csv.DictReader(io.StringIO(whole, newline=""))
    return [{key: row[key] for key in row if key not in leave_out} for row in rows]


def environment(checkout: Path = ROOT, **variables: str) -> dict[str, str]:
    """Returns environment variables with which a checkout's own package is imported."""
    return {**os.environ, "PYTHONPATH": str(checkout), **variables}


def finish(run: Run, checkout: Path = ROOT, **variables: str) -> None:
    """Runs to the end; a failure ends this program with what the run said."""
    done = subprocess.run(
        run.command(), cwd=checkout, env=environment(checkout, **variables), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"{run.folder} failed:\n{done.stderr}")


def run_all(runs: Sequence[Run], jobs: int) -> list[Run]:
    """Runs side by side, each job on its share of the cores; a failure stops no other run.

    At Ctrl-C or SIGTERM the runs under way save themselves; the same command resumes them.

    Args:
        runs: in the order in which they start.
        jobs: how many run at once.

    Returns:
        The runs that failed; the end of each one's log is printed.
    """
    signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    cores = sorted(os.sched_getaffinity(0))
    free = [cores[job::jobs] or cores for job in range(jobs)]
    waiting, failed = list(runs), []
    running: dict[subprocess.Popen[bytes], tuple[Run, list[int]]] = {}
    try:
        while waiting or running:
            while waiting and free:
                run, share = waiting.pop(0), free.pop(0)
                running[_start(run, share)] = run, share
            time.sleep(0.2)
            for process in [process for process in running if process.poll() is not None]:
                run, share = running.pop(process)
                free.append(share)
                last_lines = run.log.read_text().splitlines()[-10:]
                if process.returncode != 0:
                    failed.append(run)
                    print(f"{run.folder} failed:", *last_lines, sep="\n  ", file=sys.stderr)
                else:
                    print("".join(last_lines[-1:]), flush=True)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    return failed


def _start(run: Run, cores: Sequence[int]) -> subprocess.Popen[bytes]:
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    with run.log.open("a") as log:
        # A session of its own: a Ctrl-C reaches it once, from here.
        return subprocess.Popen(
            ["taskset", "--cpu-list", ",".join(map(str, cores)), *run.command()],
            cwd=ROOT, env=environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
