"""The folder of a run: whose it is, who may write to it, and what failures leave of it."""

import contextlib
import json
import signal
import subprocess
import sys

import pytest

from iql_jax.outputs import folder as run_folder
from iql_jax.outputs.folder import (
    RunFolder,
    check_same_data,
    read_record,
    record_change,
    started_with,
    versions,
)
from iql_jax.utils.errors import UserError
from iql_jax.utils.files import partial_path

CONFIG = {"seed": 1, "expectile": 0.7, "progress": True, "eval_processes": 0}
DATASET = {
    "id": "a/b-v0",
    "requested_id": "x/y-v0",
    "origin": "local",
    "fingerprint": "f" * 64,
    "choices": {"goal": [1.0, 2.0], "score": 3},
}


def complete(settings):
    return {"top_episodes": 1.0, **settings}


def claim(path, config=CONFIG, dataset=DATASET):
    with RunFolder(path) as folder:
        folder.claim(config, dataset)


def names(path):
    return sorted(entry.name for entry in path.iterdir())


def test_a_new_folder_is_claimed_with_its_record(tmp_path):
    claim(tmp_path / "new" / "run")
    record = read_record(tmp_path / "new" / "run")
    assert (record["config"], record["dataset"]) == (CONFIG, DATASET)
    assert record["versions"] == versions()
    assert record["device"].startswith("cpu")
    assert len(record["run_id"]) == 32
    claim(tmp_path / "new" / "run", {**CONFIG, "progress": False})
    assert read_record(tmp_path / "new" / "run") == record


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({}, None),
        ({"progress": False, "wandb_project": "p", "eval_processes": 2}, None),
        ({"replay_buffer_size": 5}, None),
        ({"top_episodes": 1.0}, None),  # A key added since, at its default.
        ({"top_episodes": 0.1}, r"top_episodes 1\.0 -> 0\.1"),
        ({"seed": 2}, r"\(seed 1 -> 2\)"),
        ({"num_envs": 4}, r"\(num_envs None -> 4\)"),  # Of another kind of run.
    ],
)
def test_settings_decide_whether_a_run_is_the_same(tmp_path, changes, difference):
    config = complete({**CONFIG, **changes})
    with RunFolder(tmp_path) as folder:
        folder.check_settings(config, complete)  # A new folder has none.
        folder.claim(CONFIG, DATASET)
        if difference is None:
            folder.check_settings(config, complete)
        else:
            with pytest.raises(UserError, match=difference):
                folder.check_settings(config, complete)


def test_a_smaller_replay_buffer_is_recorded(tmp_path, capsys):
    claim(tmp_path, {**CONFIG, "replay_buffer_size": 1_000})
    record_change(tmp_path, {**CONFIG, "replay_buffer_size": 500})
    assert "replay_buffer_size 500 (before: 1000)" in capsys.readouterr().err
    assert read_record(tmp_path)["config"]["replay_buffer_size"] == 500


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"thesis.tex": ""}, "holds files but no run"),
        ({"population.json": "{}"}, "holds a population"),
        ({"config.json": "{"}, "cannot be read"),
        ({"config.json": '{"model_type": "bert"}'}, "not the record of a run"),
        ({"config.json": "[1]"}, "it is no object"),
    ],
)
def test_a_folder_of_something_else_is_refused_and_untouched(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message), RunFolder(tmp_path):
        pass
    assert names(tmp_path) == sorted(files)


@pytest.mark.parametrize(
    "change", [{"config": []}, {"run_id": None}, {"versions": 2}, {"dataset": {"id": "a/b-v0"}}]
)
def test_a_record_whose_entries_are_of_other_types_is_refused(tmp_path, change):
    claim(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="not the record of a run"):
        read_record(tmp_path)


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9", "0.2.0.dev1"])
def test_the_folder_of_an_old_version_is_refused_with_its_name(tmp_path, version):
    claim(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    record["versions"]["iql_jax"] = version
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"written by iql_jax {version}; .* from 0.2 on"):
        read_record(tmp_path)


def test_one_process_trains_in_a_folder_and_a_kill_frees_it(tmp_path):
    script = (
        "import sys; from pathlib import Path; from iql_jax.outputs.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(UserError, match="another process is training"), RunFolder(tmp_path):
            pass
        other.kill()
        assert other.wait() == -signal.SIGKILL
    with RunFolder(tmp_path):
        pass


def test_another_machine_or_version_is_reported(tmp_path, monkeypatch, capsys):
    claim(tmp_path)
    monkeypatch.setattr(run_folder, "versions", lambda: {**versions(), "jax": "99.0"})
    claim(tmp_path)
    assert f"jax {versions()['jax']} -> 99.0" in capsys.readouterr().err


def test_runs_keep_the_dataset_that_they_were_started_with(tmp_path):
    claim(tmp_path / "run")
    folders = [tmp_path / "none", tmp_path / "run"]
    assert started_with("x/y-v0", folders) == "a/b-v0"
    assert started_with("a/b-v0", folders) == started_with("x/y-v0", folders[:1]) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choices": {"goal": (1.0, 3.0), "score": 3}}, r"otherwise \(goal\)"),
        ({"id": "c/d-v0", "fingerprint": "0" * 64}, "a/b-v0 with .* f{16} then, c/d-v0 with 0{16}"),
    ],
)
def test_other_data_are_refused_and_named(tmp_path, changes, message):
    record = {"dataset": DATASET}
    choices = {"goal": (1.0, 2.0), "score": 3, "new": 1}
    check_same_data(tmp_path, record, {**DATASET, "choices": choices})
    with pytest.raises(UserError, match=message):
        check_same_data(tmp_path, record, {**DATASET, **changes})


@pytest.mark.parametrize(
    ("before", "left"),
    [
        (None, None),  # A new folder goes again, and an empty one keeps no record.
        ([], [".lock"]),
        (["checkpoints"], [".lock", "checkpoints", "config.json"]),
        (["config.json"], [".lock", "config.json"]),  # A run that was started keeps its own.
    ],
)
def test_a_failure_before_anything_was_started_leaves_a_folder_as_it_was(tmp_path, before, left):
    path = tmp_path / "run"
    if before == ["config.json"]:
        claim(path)
    elif before is not None:
        path.mkdir()
    with contextlib.suppress(UserError), RunFolder(path) as folder:
        folder.claim(CONFIG, DATASET)
        if before == ["checkpoints"]:
            (path / "checkpoints").mkdir()
        raise UserError("no environment")
    assert (names(path) if path.exists() else None) == left


def test_a_kill_while_the_record_is_written_leaves_a_folder_that_can_be_used(tmp_path):
    partial_path(tmp_path / "config.json").write_text('{"run_id": "a')
    claim(tmp_path)
    assert read_record(tmp_path)["config"] == CONFIG
    assert names(tmp_path) == [".lock", "config.json"]
