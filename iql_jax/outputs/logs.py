"""What a run logs: CSV tables and TensorBoard always, Weights & Biases if asked."""

import csv
import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from iql_jax.utils.errors import UserError
from iql_jax.utils.files import atomic_path

Row = dict[str, Any]
Values = Mapping[str, Any]
"""A row to log: numbers or None; of a population, a list of them or one that all members share."""

TIMED = ("wall_seconds", "eval_seconds", "updates_per_second", "env_steps_per_second")
"""The columns in which runs of the same numbers differ."""


def read_table(path: Path) -> list[Row]:
    """The complete rows of a CSV table with numbers as floats and empty cells as None."""
    if not path.exists():
        return []
    rows = list(csv.DictReader(_whole_lines(path)))
    return [{name: float(cell) if cell else None for name, cell in row.items()} for row in rows]


def _whole_lines(path: Path) -> list[str]:
    """The lines of a table that have all their columns and their end; of a torn head none."""
    lines = path.read_text().splitlines(keepends=True)
    if not lines or not lines[0].endswith("\n"):
        return []
    commas = lines[0].count(",")

    def is_whole(line: str) -> bool:
        return line.endswith("\n") and line.count(",") == commas and line.split(",")[0].isdigit()

    return [lines[0], *filter(is_whole, lines[1:])]


class Table:
    """A CSV file that grows by rows, each with the step it belongs to.

    Args:
        path: The file.
        last_step: Rows after it are forgotten: there a resumed run goes on.
        unit: What a step is called: the first column.
    """

    def __init__(self, path: Path, last_step: int, unit: str = "update") -> None:
        self._path = path
        self._unit = unit
        self._columns: list[str] | None = None
        if path.exists():
            self._keep_until(last_step)

    def append(self, step: int, values: Mapping[str, float | None]) -> None:
        """Add a row; what it has no value for is left empty."""
        row = {self._unit: step, **values}
        is_new = self._columns is None
        if self._columns is None:
            self._columns = list(row)
        # A table that an earlier version began has not what has come since.
        elif new := [name for name in row if name not in self._columns]:
            self._widen(new)
        with self._path.open("w" if is_new else "a", newline="") as file:
            writer = csv.DictWriter(file, self._columns, lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerow(row)

    def _widen(self, names: list[str]) -> None:
        """Add columns, empty in the rows so far."""
        header, *rows = self._path.read_text().splitlines()
        self._columns = [*header.split(","), *names]
        lines = [",".join(self._columns), *(row + "," * len(names) for row in rows)]
        with atomic_path(self._path) as partial:
            partial.write_text("".join(f"{line}\n" for line in lines))

    def _keep_until(self, last_step: int) -> None:
        """Rewrite the file without later or torn rows; kept rows keep their very text."""
        lines = _whole_lines(self._path)
        kept = [line for line in lines[1:] if int(line.split(",")[0]) <= last_step]
        if not kept:
            self._path.unlink()
            return
        self._columns = lines[0].strip().split(",")
        with atomic_path(self._path) as partial:
            partial.write_text("".join([lines[0], *kept]))


class TensorBoard:
    """Scalars for TensorBoard, written as they come.

    tensorboardX's own ``SummaryWriter`` hands them to a thread, and waits for it for ever where the
    thread has died of a full disk.
    """

    def __init__(self, folder: Path, last_step: int) -> None:
        """Open a new file; TensorBoard forgets what older ones have after ``last_step``."""
        folder.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        purge = SessionLog(status=SessionLog.START)
        self._write(Event(session_log=purge), last_step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to each curve."""
        for name, value in values.items():
            self._write(Event(summary=scalar(name, value)), step)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()

    def _write(self, event: Any, step: int) -> None:
        event.wall_time = time.time()
        event.step = step
        self._writer.write_event(event)


class RunLog:
    """Writes each row to its CSV table, to TensorBoard, and to W&B where a project is named.

    Args:
        folder: The run's folder; gets a CSV file for each table, and ``tb/``.
        last_steps: For each table, the step up to which a resumed run keeps its rows.
        wandb_project: Empty for none.
        record: The run's record: its id and settings.
        unit: What a step is called.

    Raises:
        UserError: If W&B cannot start.
    """

    def __init__(
        self,
        folder: Path,
        last_steps: Mapping[str, int],
        wandb_project: str,
        record: Mapping[str, Any],
        unit: str = "update",
    ) -> None:
        # First, for it alone may fail: then nothing is open yet.
        self._wandb = _start_wandb(folder, wandb_project, record, unit) if wandb_project else None
        self._unit = unit
        self._tables = {
            name: Table(folder / f"{name}.csv", last, unit) for name, last in last_steps.items()
        }
        self._tensorboard = TensorBoard(folder / "tb", max(last_steps.values()))

    def write(self, table: str, step: int, values: Values) -> None:
        """Log a row of one of the tables."""
        self._tables[table].append(step, values)
        known = {f"{table}/{name}": value for name, value in values.items() if value is not None}
        self._tensorboard.write(step, known)
        if self._wandb is not None:
            self._wandb.log({self._unit: step, **known})

    def close(self) -> None:
        """Finish all writers."""
        self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()


def require_wandb(project: str) -> None:
    """Refuse a run that wants W&B where it is not installed; for before any long work."""
    if project and importlib.util.find_spec("wandb") is None:
        raise UserError(
            "config.wandb_project is set but wandb is not installed; "
            "install it with: pip install 'iql_jax[wandb]'"
        )


def _start_wandb(folder: Path, project: str, record: Mapping[str, Any], unit: str) -> Any:
    import wandb

    try:
        # The run's own id: when it is resumed, it goes on in the same curve.
        run = wandb.init(
            project=project,
            id=record["run_id"],
            name=folder.name,
            dir=folder,
            config=record["config"],
            resume="allow",
            reinit="create_new",  # The members of a population each have a run.
        )
        # An axis of our own: W&B's steps may neither be the same nor go back, as after a kill, and
        # it drops the rows of those that do.
        run.define_metric("*", step_metric=unit)
        return run
    # W&B raises kinds of its own for a missing key, a missing network and much else.
    except Exception as error:
        raise UserError(
            f"Weights & Biases does not start: {error}; --config.wandb_project= trains without it"
        ) from error
