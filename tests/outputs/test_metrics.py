import importlib.util
import struct
import sys

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from iql_jax.outputs.logs import RunLog, Table, TensorBoard, read_table, require_wandb
from iql_jax.utils.errors import UserError

RECORD = {"run_id": "abc", "config": {"seed": 1}}


def test_rows_survive_as_written(tmp_path):
    table = Table(tmp_path / "t.csv", 0)
    table.append(10, {"loss": 0.1 + 0.2, "score": None})
    table.append(20, {"loss": 1e-9, "score": 50.0})
    assert read_table(tmp_path / "t.csv") == [
        {"update": 10.0, "loss": 0.1 + 0.2, "score": None},
        {"update": 20.0, "loss": 1e-9, "score": 50.0},
    ]


def test_reopening_forgets_later_and_torn_rows(tmp_path):
    path = tmp_path / "t.csv"
    table = Table(path, 0)
    for update in (10, 20, 30):
        table.append(update, {"loss": update / 3})
    path.write_text(path.read_text() + "40,1.")
    kept = path.read_text().splitlines(keepends=True)[:3]
    Table(path, 20).append(30, {"loss": 0.5})
    assert path.read_text() == "".join(kept) + "30,0.5\n"


@pytest.mark.parametrize(
    ("torn", "kept"),
    [
        ("update,loss\n10,1.5\n20,2.5", 1),  # As long as the whole row, or not: nobody knows.
        ("update,loss\n10,1.5\n\0\0\0,\n", 1),  # As a power cut may leave it.
        ("update,loss\n10,1.5\n20.0,2.5\n30,3.5\n", 2),
        ("update,lo", 0),
        ("", 0),
    ],
)
def test_only_whole_rows_are_read_and_kept(tmp_path, torn, kept):
    path = tmp_path / "t.csv"
    path.write_text(torn)
    rows = read_table(path)
    assert [row["update"] for row in rows] == [10.0, 30.0][:kept]
    Table(path, 100)
    assert read_table(path) == rows


def test_reopening_before_the_first_row_starts_again(tmp_path):
    Table(tmp_path / "t.csv", 0).append(10, {"loss": 1.0})
    table = Table(tmp_path / "t.csv", 5)
    assert read_table(tmp_path / "t.csv") == []  # At once, and not with the next row.
    table.append(10, {"other": 2.0})
    assert read_table(tmp_path / "t.csv") == [{"update": 10.0, "other": 2.0}]


def test_a_table_that_was_cut_short_in_its_first_line_starts_again(tmp_path):
    (tmp_path / "t.csv").write_text("update,lo")
    Table(tmp_path / "t.csv", 5).append(10, {"loss": 2.0})
    assert read_table(tmp_path / "t.csv") == [{"update": 10.0, "loss": 2.0}]


def test_a_table_of_an_earlier_version_gets_the_columns_that_have_come_since(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("update,loss,gone\n10,1.5,7.0\n20,2.5,\n")
    table = Table(path, 20)
    table.append(30, {"loss": 3.5, "share": 0.25, "v": -1.0})
    table.append(40, {"loss": 4.5, "share": 0.5, "v": -2.0})
    assert path.read_text() == (
        "update,loss,gone,share,v\n10,1.5,7.0,,\n20,2.5,,,\n30,3.5,,0.25,-1.0\n40,4.5,,0.5,-2.0\n"
    )


def test_the_first_column_is_what_a_step_is_called(tmp_path):
    Table(tmp_path / "t.csv", 0, unit="step").append(10, {"loss": 2.0})
    assert (tmp_path / "t.csv").read_text().startswith("step,loss\n10,2.0\n")


def test_a_missing_table_has_no_rows(tmp_path):
    assert read_table(tmp_path / "t.csv") == []


def test_log_writes_both_tables_and_tensorboard(tmp_path):
    log = RunLog(tmp_path, {"metrics": 0, "evaluations": 0}, "", RECORD)
    log.write("metrics", 5, {"loss": 1.0})
    log.write("evaluations", 5, {"score": None, "return_mean": 2.0})
    log.close()
    assert len(read_table(tmp_path / "metrics.csv")) == 1
    assert len(read_table(tmp_path / "evaluations.csv")) == 1
    (events,) = (tmp_path / "tb").iterdir()
    assert points(events) == [(5, "metrics/loss", 1.0), (5, "evaluations/return_mean", 2.0)]


def read_events(path):
    """The events of TensorBoard's file: of each the length, its checksum, itself, its checksum."""
    content, events = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events


def points(path):
    return [
        (event.step, value.tag, value.simple_value)
        for event in read_events(path)
        for value in event.summary.value
    ]


def test_a_resumed_run_has_tensorboard_forget_what_comes_again(tmp_path):
    board = TensorBoard(tmp_path / "tb", 20)
    board.write(30, {"loss": 0.5})
    board.close()
    (path,) = (tmp_path / "tb").iterdir()
    assert points(path) == [(30, "loss", 0.5)]
    (start,) = (event for event in read_events(path) if event.HasField("session_log"))
    assert (start.session_log.status, start.step) == (SessionLog.START, 21)


def test_tensorboard_raises_where_it_cannot_write(tmp_path):
    board = TensorBoard(tmp_path / "tb", 0)
    write_event = board._writer.write_event

    def full(event):
        raise OSError(28, "No space left on device")

    board._writer.write_event = full
    with pytest.raises(OSError, match="No space left"):
        board.write(1, {"loss": 1.0})
    board._writer.write_event = write_event
    board.close()


def test_wandb_without_the_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    require_wandb("")
    with pytest.raises(UserError, match=r"iql_jax\[wandb\]"):
        require_wandb("project")


def test_wandb_that_does_not_start_is_one_clear_line(tmp_path, monkeypatch):
    class FakeWandb:
        @staticmethod
        def init(**kwargs):
            raise RuntimeError("no API key")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb)
    with pytest.raises(UserError, match="does not start: no API key"):
        RunLog(tmp_path, {"metrics": 0, "evaluations": 0}, "project", RECORD)


def test_wandb_gets_the_same_rows(tmp_path, monkeypatch):
    class FakeRun:
        def __init__(self):
            self.rows = []

        def define_metric(self, names, step_metric):
            self.rows.append((names, step_metric))

        def log(self, row):
            self.rows.append(row)

        def finish(self):
            self.rows.append("finished")

    run = FakeRun()

    class FakeWandb:
        @staticmethod
        def init(**kwargs):
            assert kwargs["project"] == "project"
            assert kwargs["id"] == "abc"
            assert kwargs["name"] == tmp_path.name
            assert kwargs["config"] == {"seed": 1}
            return run

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb)
    log = RunLog(tmp_path, {"metrics": 0, "evaluations": 0}, "project", RECORD)
    log.write("metrics", 5, {"loss": 1.0, "none": None})
    log.close()
    assert run.rows == [("*", "update"), {"update": 5, "metrics/loss": 1.0}, "finished"]
