"""The folder of a run: whose it is, who may write to it, and what failures leave of it."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from iql_jax.outputs.folder import RunFolder, check_same_data, read_record, versions
from iql_jax.training.config import FinetuneConfig
from iql_jax.utils.errors import UserError
from iql_jax.utils.files import partial_path

CONFIG = {"seed": 1, "expectile": 0.7, "progress": True, "eval_envs": 0}
DATASET = {"id": "a/b-v0", "fingerprint": "f" * 64, "choices": {"goal": [1.0, 2.0], "score": 3}}


def test_a_new_folder_is_claimed_with_its_record(tmp_path):
    with RunFolder(tmp_path / "new" / "run") as folder:
        folder.claim(CONFIG, DATASET, 10)
    record = read_record(tmp_path / "new" / "run")
    assert record["config"] == CONFIG
    assert record["dataset"] == DATASET
    assert record["versions"] == versions()
    assert record["device"].startswith("cpu")


def test_the_same_run_may_come_back_with_other_displays(tmp_path):
    for changed in ({}, {"progress": False, "wandb_project": "p"}, {"eval_envs": 2}):
        with RunFolder(tmp_path) as folder:
            folder.check_settings({**CONFIG, **changed})
            folder.claim({**CONFIG, **changed}, DATASET, 10)
    assert read_record(tmp_path)["config"] == CONFIG


def test_a_folder_of_another_run_is_refused_and_the_difference_named(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.claim(CONFIG, DATASET, 10)
    before = (tmp_path / "config.json").read_text()
    with RunFolder(tmp_path) as folder, pytest.raises(UserError, match="seed 1 -> 2") as caught:
        folder.check_settings({**CONFIG, "seed": 2})
    assert "expectile" not in str(caught.value)
    with RunFolder(tmp_path) as folder, pytest.raises(UserError, match="other data"):
        folder.claim(CONFIG, {**DATASET, "fingerprint": "0" * 64}, 10)
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
        "import sys; from pathlib import Path; from iql_jax.outputs.folder import RunFolder\n"
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
        read_record(tmp_path)


def test_somebody_elses_config_is_refused_and_untouched(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="not the record of a run"), RunFolder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_settings_are_compared_before_anything_is_loaded(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.check_settings(CONFIG)
        folder.claim(CONFIG, DATASET, 10)
    with RunFolder(tmp_path) as folder, pytest.raises(UserError, match=r"expectile 0\.7 -> 0\.9"):
        folder.check_settings({**CONFIG, "expectile": 0.9})


def test_a_run_begun_before_a_key_came_goes_on_with_the_keys_default(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.claim(CONFIG, DATASET, 10)
    for same in ({"maze_walls": "data"}, {"top_episodes": 1.0}, {"hidden_dims": [256, 256]}):
        with RunFolder(tmp_path) as folder:
            folder.check_settings({**CONFIG, **same})
    with (
        RunFolder(tmp_path) as folder,
        pytest.raises(UserError, match=r"top_episodes 1\.0 -> 0\.1"),
    ):
        folder.check_settings({**CONFIG, "top_episodes": 0.1})


def test_a_fine_tuning_run_begun_before_a_key_came_goes_on_too(tmp_path):
    config = FinetuneConfig(dataset="a/b-v0").to_dict()
    with RunFolder(tmp_path) as folder:
        folder.claim({key: config[key] for key in config if key != "start_steps"}, DATASET, 10)
        folder.check_settings(config)
        with pytest.raises(UserError, match="start_steps 0 -> 5"):
            folder.check_settings({**config, "start_steps": 5})


def test_a_run_keeps_its_id_and_its_number_of_environments(tmp_path):
    with RunFolder(tmp_path) as folder:
        folder.claim(CONFIG, DATASET, 10)
    first = read_record(tmp_path)
    with RunFolder(tmp_path) as folder:
        folder.claim(CONFIG, DATASET, 4)
    assert read_record(tmp_path) == first
    assert first["num_envs"] == 10
    assert len(first["run_id"]) == 32


def test_other_versions_are_told(tmp_path, monkeypatch, capsys):
    with RunFolder(tmp_path) as folder:
        folder.claim(CONFIG, DATASET, 10)
    monkeypatch.setattr("iql_jax.outputs.folder.versions", lambda: {**versions(), "jax": "99.0"})
    with RunFolder(tmp_path) as folder:
        folder.claim(CONFIG, DATASET, 10)
    assert f"jax {versions()['jax']} -> 99.0" in capsys.readouterr().err


def test_other_data_are_named(tmp_path):
    with pytest.raises(
        UserError, match=r"a/b-v0 with fingerprint f{16} then, c/d-v0 with 0{16} now"
    ):
        check_same_data(tmp_path, {"dataset": DATASET}, {"id": "c/d-v0", "fingerprint": "0" * 64})


def test_data_whose_metadata_have_changed_are_refused(tmp_path):
    record = {"dataset": DATASET}
    same = {**DATASET, "choices": {"goal": (1.0, 2.0), "score": 3, "new": 1}}
    check_same_data(tmp_path, record, same)
    moved = {**DATASET, "choices": {"goal": (1.0, 3.0), "score": 3}}
    with pytest.raises(UserError, match=r"read the same data otherwise \(goal\)"):
        check_same_data(tmp_path, record, moved)


def test_a_new_folder_in_which_nothing_began_goes_again(tmp_path):
    with RunFolder(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()
    with RunFolder(tmp_path):
        pass
    assert tmp_path.exists()


def test_what_fails_before_anything_is_begun_takes_its_claim_back(tmp_path):
    def fail(path, *made):
        with RunFolder(path) as folder:
            folder.claim(CONFIG, DATASET, 10)
            for name in made:
                (path / name).mkdir()
            raise UserError("no such environment")

    for path in (tmp_path / "new", tmp_path):
        with pytest.raises(UserError, match="no such environment"):
            fail(path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    # One that was begun keeps what it has.
    with pytest.raises(UserError, match="no such environment"):
        fail(tmp_path, "checkpoints")
    assert read_record(tmp_path)["config"] == CONFIG
    (tmp_path / "checkpoints").rmdir()
    with pytest.raises(UserError, match="no such environment"):
        fail(tmp_path)
    assert read_record(tmp_path)["config"] == CONFIG


def test_a_kill_while_the_record_is_written_leaves_a_folder_that_can_be_used(tmp_path):
    partial_path(tmp_path / "config.json").write_text('{"run_id": "a')
    with RunFolder(tmp_path) as folder:
        folder.claim(CONFIG, DATASET, 10)
    assert read_record(tmp_path)["config"] == CONFIG
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "config.json"}


def test_a_record_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def fail(self, text):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)

    def claim():
        with RunFolder(tmp_path / "run") as folder:
            folder.claim(CONFIG, DATASET, 10)

    with pytest.raises(OSError, match="No space left"):
        claim()
    assert list(tmp_path.iterdir()) == []
