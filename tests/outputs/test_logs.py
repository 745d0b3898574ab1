"""Tables, TensorBoard and W&B: rows survive as written, and damage costs a row and not the run."""

import importlib.util
import struct
import sys
from unittest import mock

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from iql_jax.outputs.logs import RunLog, Table, read_table, require_wandb
from iql_jax.utils.errors import UserError

RECORD = {"run_id": "abc", "config": {"seed": 1}}
LAST = {"metrics": 0, "evaluations": 0}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "t.csv"


def test_rows_survive_as_written(path):
    assert read_table(path) == []
    table = Table(path, 0)
    table.append(10, {"loss": 0.1 + 0.2, "score": None})
    table.append(20, {"loss": float("nan"), "score": 1e-9})
    first, second = read_table(path)
    assert first == {"update": 10.0, "loss": 0.1 + 0.2, "score": None}
    assert second["score"] == 1e-9
    assert second["loss"] != second["loss"]


def test_a_resumed_table_drops_later_rows_and_keeps_the_text_of_the_others(path):
    table = Table(path, 0, unit="step")
    for step in (10, 20, 30):
        table.append(step, {"loss": step / 3})
    kept = path.read_text().splitlines(keepends=True)[:3]
    Table(path, 20, unit="step").append(30, {"loss": 0.5})
    assert path.read_text() == "".join(kept) + "30,0.5\n"
    assert kept[0] == "step,loss\n"
    table = Table(path, 5, unit="step")  # Before its first row it starts again, at once.
    assert read_table(path) == []
    table.append(10, {"other": 2.0})
    assert read_table(path) == [{"step": 10.0, "other": 2.0}]


@pytest.mark.parametrize(
    ("content", "steps", "damaged"),
    [
        ("update,loss\n10,1.5\n20,2.5", [10], 0),  # As long as the whole row, or not: who knows.
        ("update,loss\n10,1.5\n20,2.5\n30,", [10, 20], 0),
        ("update,loss\n10,1.5\n\0\0\0,\n", [10], 1),  # As a power cut may leave it.
        ("update,loss\n10,1.5\n20,2\xff5\n30,3.5\n", [10, 30], 1),  # A byte.
        ('update,loss\n10,"1.5\n20,2..5\n30,3.5\n', [30], 2),  # A number.
        ("update,loss\n10\n2.0,2.5\n-3,3.5\n40,4,5\n50,5.5\n", [50], 4),  # A column, a step.
        ("update,loss\n10,1.5\n20,2_5\n2_0,2.5\n30, 3.5\n40,3.5\n", [10, 40], 3),  # To float().
        ("update,loss\n10,1.5\n20,2.5\n10,1.5\n", [10, 20], 1),  # A row twice.
        ("update,update\n10,1.5\n", [], 1),
        ("update,loss\n10,\n", [10], 0),
        ("upd\xffte,loss\n10,1.5\n", [], 1),
        ("updatf,loss\n10,1.5\n", [], 1),
        ("update,lo", [], 0),
        ("", [], 0),
    ],
)
def test_damaged_rows_are_dropped_with_a_line(path, capsys, content, steps, damaged):
    path.write_text(content, encoding="latin-1")
    rows = [row for row in read_table(path) if "update" in row]
    assert [row["update"] for row in rows] == steps
    assert capsys.readouterr().err == ""
    table = Table(path, 100)
    assert (f"dropped {damaged} damaged" in capsys.readouterr().err) == (damaged > 0)
    assert read_table(path) == rows
    table.append(200, {"loss": 9.0})
    assert read_table(path) == [*rows, {"update": 200.0, "loss": 9.0}]


def test_a_table_of_an_earlier_version_gets_the_columns_that_it_lacks(path):
    path.write_text("update,loss,gone\n10,1.5,7.0\n20,2.5,\n")
    table = Table(path, 20)
    table.append(30, {"loss": 3.5, "share": 0.25, "v": -1.0})
    table.append(40, {"loss": 4.5, "share": 0.5, "v": -2.0})
    assert path.read_text() == (
        "update,loss,gone,share,v\n10,1.5,7.0,,\n20,2.5,,,\n30,3.5,,0.25,-1.0\n40,4.5,,0.5,-2.0\n"
    )


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


def test_a_log_writes_both_tables_and_tensorboard(tmp_path):
    log = RunLog(tmp_path, {"metrics": 3, "evaluations": 2}, "", RECORD)
    log.write("metrics", 5, {"loss": 1.0})
    log.write("evaluations", 5, {"score": None, "return_mean": 2.0})
    log.close()
    assert len(read_table(tmp_path / "metrics.csv")) == 1
    assert len(read_table(tmp_path / "evaluations.csv")) == 1
    (events,) = (tmp_path / "tb").iterdir()
    assert points(events) == [(5, "metrics/loss", 1.0), (5, "evaluations/return_mean", 2.0)]
    # TensorBoard forgets what a resumed run writes again.
    (start,) = (event for event in read_events(events) if event.HasField("session_log"))
    assert (start.session_log.status, start.step) == (SessionLog.START, 4)


@pytest.fixture
def wandb(monkeypatch):
    """A module in the place of W&B's."""
    module = mock.MagicMock()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_gets_the_same_rows(tmp_path, wandb):
    log = RunLog(tmp_path, LAST, "project", RECORD)
    log.write("metrics", 5, {"loss": 1.0, "none": None})
    log.close()
    assert wandb.init.return_value.mock_calls == [
        mock.call.define_metric("*", step_metric="update"),
        mock.call.log({"update": 5, "metrics/loss": 1.0}),
        mock.call.finish(),
    ]
    expected = {"project": "project", "id": "abc", "name": tmp_path.name, "resume": "allow"}
    assert {**expected, "config": {"seed": 1}}.items() <= wandb.init.call_args.kwargs.items()


def test_wandb_that_is_missing_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    require_wandb("")
    with pytest.raises(UserError, match=r"iql_jax\[wandb\]"):
        require_wandb("project")
