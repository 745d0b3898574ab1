"""Many runs of an entry point: started side by side, and resumed.

What the benchmarks that train share. Each run is the command that anyone would start, in a process
and a folder of its own. What is told of finished ones is in ``reports.py``.
"""

import contextlib
import dataclasses
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from iql_jax.generation.provide import provide
from iql_jax.outputs.folder import FREE_FOR_MEMORY, FREE_ON_RESUME
from iql_jax.outputs.logs import Row, read_table
from iql_jax.populations.folder import FAILURE
from iql_jax.populations.run import train_sweep
from iql_jax.populations.sweep import Member
from iql_jax.training.config import Config, defaults, from_mapping, kind_of
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import signals_deferred

ROOT = Path(__file__).parent.parent

_POLL_SECONDS = 0.5
_SHOW_SECONDS = 10.0  # Between looks at how far the runs are.
_LOG_LINES = 15  # Of a failed run.
_LOG_INTERVAL_TOGETHER = 10_000
_MAY_DIFFER = (*FREE_ON_RESUME, *FREE_FOR_MEMORY, "log_interval")  # In a run that counts.

METHODS: dict[str, dict[str, Any]] = {
    "IQL": {},
    "BC": {"temperature": 0.0},
    # Of mazes, which alone heed maze_drop, the best episodes are then the quickest arrivals.
    "10%BC": {"temperature": 0.0, "top_episodes": 0.1, "maze_drop": "after_success"},
}
"""What the literature compares with, as overrides of a config."""

OF_METHODS = sorted({key for settings in METHODS.values() for key in settings})


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One run.

    Attributes:
        folder: its ``--workdir``; the log lies beside it.
        config: its config file, relative to the repository.
        settings: the keys that it overrides.
        script: the entry point.
    """

    folder: Path
    config: str
    settings: Mapping[str, Any]
    script: str = "train_offline.py"

    @property
    def log(self) -> Path:
        """What its processes have printed."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def command(self) -> list[str]:
        """What starts it, or goes on with it."""
        overrides = {**self.settings, "progress": False}
        return [
            sys.executable,
            self.script,
            f"--config={self.config}",
            f"--workdir={self.folder.absolute()}",
            *(f"--config.{key}={setting}" for key, setting in overrides.items()),
        ]

    def wanted(self) -> dict[str, Any]:
        """All settings that it is to have: its config file's, overridden."""
        return {**read_config_file(self.config), **self.settings}

    def read_config(self) -> Config:
        """The settings of an offline run, for training in this process."""
        # A row is written for each of the runs.
        return from_mapping({**self.wanted(), "log_interval": _LOG_INTERVAL_TOGETHER})

    def summary(self) -> dict[str, Any] | None:
        """What it reports; None until it is finished."""
        try:
            return dict(json.loads((self.folder / "summary.json").read_text()))
        except FileNotFoundError:
            return None

    def record(self) -> dict[str, Any]:
        """Its ``config.json``: settings, dataset, versions."""
        return dict(json.loads((self.folder / "config.json").read_text()))

    def evaluations(self) -> list[Row]:
        """The rows of its ``evaluations.csv``."""
        return read_table(self.folder / "evaluations.csv")

    def ran_with(self) -> dict[str, Any]:
        """All settings that it was begun with; keys that have come since have their defaults."""
        settings = self.record()["config"]
        return {**defaults(kind_of(settings)), **settings}

    def is_finished(self) -> bool:
        """Whether it is finished, and with all the settings that it is to have."""
        if self.summary() is None:
            return False
        ran_with = self.ran_with()
        wanted = json.loads(json.dumps(self.wanted()))  # As the record has them.
        return all(
            ran_with.get(key) == setting
            for key, setting in wanted.items()
            if key not in _MAY_DIFFER
        )

    def share_done(self) -> float:
        """How much of it is done, in [0, 1], by its last logged step."""
        rows = read_table(self.folder / "metrics.csv")
        if not rows:
            return 0.0
        settings = self.record()["config"]
        done, steps = step_of(rows[-1]), settings["max_steps"]
        if settings.get("offline_run"):  # Its steps are counted from that run's last on.
            try:
                done -= boundary(settings)
            except UserError:  # That run may be gone: a look at how far this one is stops none.
                return 0.0
        else:
            steps += settings.get("num_pretraining_steps", 0)
        return done / steps


def read_config_file(path: str) -> dict[str, Any]:
    """The settings of a config file, which is named relative to the repository."""
    if str(ROOT) not in sys.path:  # Config files import each other, and are in no package.
        sys.path.append(str(ROOT))
    return dict(runpy.run_path(str(ROOT / path))["get_config"]().to_dict())


def step_of(row: Row) -> int:
    """The step of a table's row, by whatever name its kind of run has for it."""
    return int(next(iter(row.values())))


def boundary(settings: Mapping[str, Any]) -> int:
    """The step at which a fine-tuning run with these settings begins with the environment."""
    if not settings["offline_run"]:
        return int(settings["num_pretraining_steps"])
    summary = Path(settings["offline_run"]) / "summary.json"
    if not summary.exists():
        raise UserError(
            f"{summary} is missing, which says where fine-tuning from this run began; put it back"
        )
    return int(json.loads(summary.read_text())["updates"])


def run_all(
    runs: Sequence[Run],
    jobs: int,
    command: Callable[[Run], list[str]] = lambda run: run.command(),
) -> list[Run]:
    """Train what is not trained yet; interrupted runs go on, and a failure stops no other run.

    Ctrl-C and SIGTERM are passed on: the runs save themselves, and the same command goes on.

    Args:
        runs: in the order in which they start.
        jobs: how many run at once, each on its share of the cores.
        command: what to start for a run; its own command unless told otherwise.

    Returns:
        The runs that failed; the ends of their logs are printed.

    Raises:
        UserError: if there is no such dataset, and it cannot be made.
    """
    waiting = [run for run in runs if not run.is_finished()]
    # A missing dataset is made here, once: runs that begin side by side would each make it.
    for dataset in dict.fromkeys(run.settings.get("dataset") for run in waiting):
        if dataset is not None:
            provide(dataset)
    # Where the system lets a process be kept to some cores, each job gets its own.
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    free = [set(cores[job::jobs]) for job in range(jobs)]
    running: dict[Run, tuple[subprocess.Popen[bytes], set[int]]] = {}
    failed: list[Run] = []
    done, shown = len(runs) - len(waiting), time.monotonic()
    with (
        _bar(len(runs), done) as bar,
        _terminated_by_signals(),
        _stopped_at_the_end(running),
    ):
        while waiting or running:
            while waiting and free:
                run, share = waiting.pop(0), free.pop(0)
                with signals_deferred():  # Between the two nobody would know of the process.
                    running[run] = _start(run, command(run), share), share
            time.sleep(_POLL_SECONDS)
            for run, (process, share) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[run]
                free.append(share)
                done += 1
                if process.returncode != 0:
                    failed.append(run)
            if not running or time.monotonic() - shown >= _SHOW_SECONDS:
                bar.n = done + sum(run.share_done() for run in running)
                bar.refresh()
                shown = time.monotonic()
    _tell(failed)
    return failed


def train(runs: Sequence[Run], jobs: int, together: bool) -> list[Run]:
    """Train what is not trained yet, by ``train_together`` or ``run_all``; returns what failed."""
    return train_together(runs) if together else run_all(runs, jobs)


def train_together(runs: Sequence[Run]) -> list[Run]:
    """Train what is not trained yet in this process, as populations: for a GPU or TPU.

    Each run's numbers are those of its own command, to float32 rounding. The runs share a folder,
    which is from then on a population's: it takes more of them, but none may be left out.

    Returns:
        The runs that failed; why is printed.

    Raises:
        UserError: On anything that the user can mend.
        Interrupted: After SIGINT or SIGTERM, with the state saved.
    """
    configs = [run.read_config() for run in runs]
    swept = [
        key
        for key in dict.fromkeys(key for run in runs for key in run.settings)
        if len({getattr(config, key) for config in configs}) > 1
    ]
    members = [
        Member(run.folder.name, config, {key: getattr(config, key) for key in swept})
        for run, config in zip(runs, configs, strict=True)
    ]
    train_sweep(members, runs[0].folder.parent)
    failed = [run for run in runs if not run.is_finished()]
    _tell(failed)
    return failed


def finish(failed: Sequence[Run]) -> None:
    """End the program, with status 1 if any run failed."""
    if failed:
        sys.exit(1)


def _tell(failed: Sequence[Run]) -> None:
    """Print why runs failed, before anything else that may go wrong."""
    for run in failed:
        if not run.log.exists():  # It was trained together with others.
            print(f"\n{run.folder} failed: {_failure(run)}", file=sys.stderr)
            continue
        last_lines = run.log.read_text().splitlines()[-_LOG_LINES:]
        print(f"\n{run.folder} failed; the end of {run.log}:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in last_lines), file=sys.stderr)


def _failure(run: Run) -> str:
    return str(json.loads((run.folder / FAILURE).read_text())["reason"])


def _start(run: Run, command: Sequence[str], cores: set[int]) -> subprocess.Popen[bytes]:
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    with run.log.open("a") as log:
        # A session of its own: a Ctrl-C comes once, from here, and not from the terminal too.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    if cores:
        # A process that has ended already, by a mistake in its settings, is no longer there.
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(process.pid, cores)
    return process


def _bar(total: int, done: int) -> "tqdm[Any]":
    """Runs done, counting a run under way by its share, and the time left."""
    return tqdm(
        total=total,
        initial=done,
        bar_format="{l_bar}{bar}| {n:.2f}/{total} runs [{elapsed}<{remaining}]",
    )


@contextlib.contextmanager
def _terminated_by_signals() -> Iterator[None]:
    """Leave by an exception at SIGTERM, as at Ctrl-C."""
    before = signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _stopped_at_the_end(
    running: Mapping[Run, tuple[subprocess.Popen[bytes], set[int]]],
) -> Iterator[None]:
    """Leave no process behind: ask what still runs to save and end, and wait for it."""
    try:
        yield
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()
