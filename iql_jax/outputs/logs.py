"""Logs of a run: CSV tables and TensorBoard always, Weights & Biases on request."""

import csv
import importlib.util
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from iql_jax.utils.console import logger
from iql_jax.utils.errors import UserError
from iql_jax.utils.files import atomic_path

Row = dict[str, Any]
Values = Mapping[str, Any]
"""A row to log: numbers or None; of a population, a list of them or one that all members share."""

_ROW = re.compile(r"[0-9]{1,18}(,[-+.0-9a-z]*)*")  # float() takes much more, such as "1_0".


def read_table(path: Path) -> list[Row]:
    """Returns the whole rows of a CSV table: numbers as floats, empty cells as None."""
    columns, lines, _ = _whole_lines(path)
    return [dict(zip(columns, _numbers(line), strict=True)) for line in lines]


def _whole_lines(path: Path) -> tuple[list[str], list[str], int]:
    """Returns a table's columns, its whole rows as text, and the number of damaged rows."""
    text = path.read_text(errors="replace") if path.exists() else ""
    head, *lines = text.split("\n")[:-1] or [""]
    columns = head.split(",")
    if "\ufffd" in head or len({*columns} - {""}) < len(columns):
        columns = []

    # Not csv.reader: for it, one damaged quotation mark hides all the rows up to the next.
    def is_whole(line: str) -> bool:
        try:
            return _ROW.fullmatch(line) is not None and len(_numbers(line)) == len(columns)
        except ValueError:
            return False

    whole = list(dict.fromkeys(filter(is_whole, lines)))  # A row that is there twice is damage.
    return columns, whole, len(lines) - len(whole)


def _numbers(line: str) -> list[float | None]:
    return [float(cell) if cell else None for cell in line.split(",")]


class Table:
    """A CSV file that grows by rows, each with the step it belongs to: ``unit``, the first column.

    Rows after ``last_step``, where a resumed run continues, are dropped, and damaged ones too.
    """

    def __init__(self, path: Path, last_step: int, unit: str = "update") -> None:
        self._path = path
        self._unit = unit
        self._columns, lines, damaged = _whole_lines(path)
        if self._columns and self._columns[0] != unit:
            lines, damaged = [], damaged + len(lines)
        if damaged:
            logger.info(f"dropped {damaged} damaged rows of {path}")
        kept = [line for line in lines if int(line.split(",")[0]) <= last_step]
        if kept:
            self._rewrite(kept)
        else:
            self._columns = []
            path.unlink(missing_ok=True)

    def append(self, step: int, values: Mapping[str, float | None]) -> None:
        """Adds a row; columns without a value are empty in it."""
        row = {self._unit: step, **values}
        is_new = not self._columns
        # An earlier version may have started the table with fewer columns.
        if added := [name for name in row if name not in self._columns]:
            _, lines, _ = _whole_lines(self._path)
            self._columns = [*self._columns, *added]
            if not is_new:
                self._rewrite([line + "," * len(added) for line in lines])
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._columns, lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerow(row)

    def _rewrite(self, lines: list[str]) -> None:
        """Writes the table anew; rows keep their very text."""
        with atomic_path(self._path) as partial:
            partial.write_text("\n".join([",".join(self._columns), *lines, ""]))


class TensorBoard:
    """Scalars for TensorBoard, which forgets what older files have after ``last_step``.

    tensorboardX's own ``SummaryWriter`` hands them to a thread; where the thread has died of a full
    disk, the next write waits for it forever.
    """

    def __init__(self, folder: Path, last_step: int) -> None:
        folder.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        self._write(Event(session_log=SessionLog(status=SessionLog.START)), last_step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one point to each curve."""
        for name, value in values.items():
            self._write(Event(summary=scalar(name, value)), step)
        self._writer.flush()

    def close(self) -> None:
        """Finishes the file."""
        self._writer.close()

    def _write(self, event: Any, step: int) -> None:
        event.wall_time = time.time()
        event.step = step
        self._writer.write_event(event)


class RunLog:
    """Writes each row to its CSV table, to TensorBoard, and to W&B where a project is named.

    ``last_steps`` names, for each table, the step up to which a resumed run keeps its rows.
    """

    def __init__(
        self,
        folder: Path,
        last_steps: Mapping[str, int],
        wandb_project: str,
        record: Mapping[str, Any],
        unit: str = "update",
    ) -> None:
        # First, since it alone may fail: then nothing is open yet.
        self._wandb = _start_wandb(folder, wandb_project, record, unit) if wandb_project else None
        self._unit = unit
        self._tables = {
            name: Table(folder / f"{name}.csv", last, unit) for name, last in last_steps.items()
        }
        self._tensorboard = TensorBoard(folder / "tb", max(last_steps.values()))

    def write(self, table: str, step: int, values: Values) -> None:
        """Logs a row of one of the tables."""
        self._tables[table].append(step, values)
        known = {f"{table}/{name}": value for name, value in values.items() if value is not None}
        self._tensorboard.write(step, known)
        if self._wandb is not None:
            self._wandb.log({self._unit: step, **known})

    def close(self) -> None:
        """Finishes all writers."""
        self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()


def require_wandb(project: str) -> None:
    """Refuses a run that asks for W&B where it is not installed; call it before any long work."""
    if project and importlib.util.find_spec("wandb") is None:
        raise UserError(
            "config.wandb_project is set but wandb is not installed; "
            "install it with: pip install 'iql_jax[wandb]'"
        )


def _start_wandb(folder: Path, project: str, record: Mapping[str, Any], unit: str) -> Any:
    import wandb

    try:
        # The run's own id: when it is resumed, it continues the same curve.
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
