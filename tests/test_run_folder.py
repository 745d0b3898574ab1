import subprocess
import sys

import pytest

from iql_jax.errors import UserError
from iql_jax.run_folder import RunFolder, read_json, versions

CONFIG = {"seed": 1, "expectile": 0.7, "progress": True, "eval_envs": 0}
DATASET = {"id": "a/b-v0", "fingerprint": "f" * 64}


def test_a_new_folder_is_claimed_with_its_record(tmp_path):
    with RunFolder(tmp_path / "new" / "run") as folder:
        folder.claim(CONFIG, DATASET)
    record = read_json(tmp_path / "new" / "run" / "config.json")
    assert record["config"] == CONFIG
    assert record["dataset"] == DATASET
    assert record["versions"] == versions()
    assert record["device"].startswith("cpu")


def test_the_same_run_may_come_back_with_other_displays(tmp_path):
    for changed in ({}, {"progress": False, "eval_envs": 4}):
        with RunFolder(tmp_path) as folder:
            folder.claim({**CONFIG, **changed}, DATASET)
    assert read_json(tmp_path / "config.json")["config"] == CONFIG


def test_a_folder_of_another_run_is_refused_and_the_difference_named(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.claim(CONFIG, DATASET)
    before = (tmp_path / "config.json").read_text()
    with RunFolder(tmp_path) as folder, pytest.raises(UserError, match="seed 1 -> 2") as caught:
        folder.claim({**CONFIG, "seed": 2}, DATASET)
    assert "expectile" not in str(caught.value)
    with RunFolder(tmp_path) as folder, pytest.raises(UserError, match="other data"):
        folder.claim(CONFIG, {**DATASET, "fingerprint": "0" * 64})
    assert (tmp_path / "config.json").read_text() == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds files but no run"), RunFolder(tmp_path):
        pass
    with pytest.raises(UserError, match="is a file"), RunFolder(tmp_path / "thesis.tex"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    script = (
        "import sys; from pathlib import Path; from iql_jax.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=-1, stdout=-1, text=True
    ) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(UserError, match="another process is training"), RunFolder(tmp_path):
            pass
        other.stdin.close()
        other.wait()
    with RunFolder(tmp_path):
        pass


def test_broken_json_is_one_clear_line(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        read_json(tmp_path / "config.json")
