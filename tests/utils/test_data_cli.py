"""The command line of the datasets."""

import json
import os
import signal
import subprocess
import sys
import time

import h5py
import minari
import numpy as np
import pytest

from iql_jax.datasets import main
from iql_jax.generation import catalog
from iql_jax.generation.generate import generate

ID = "iql/pointmaze/umaze-v0"


pytestmark = pytest.mark.usefixtures("data_folders")


def _make_small(steps=600):
    return generate(ID, steps=steps, progress=False)


class TestList:
    @pytest.mark.skipif(sys.platform != "linux", reason="asks a shell for a pipe's statuses")
    def test_a_reader_that_leaves_is_no_failure(self):
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
        script = f"{sys.executable} -m iql_jax.data list | true; exit ${{PIPESTATUS[0]}}"
        ended = subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0
        assert "BrokenPipe" not in ended.stderr

    def test_an_empty_folder_shows_what_can_be_made(self, capsys):
        assert main(["list"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["id", "source", "steps", "episodes", "size"]
        assert [line.split()[:4] for line in lines[1:]] == [
            [name, "generated", "-", "-"] for name in sorted(catalog.GENERATED)
        ]
        assert all(line.endswith("not made yet") for line in lines[1:])

    def test_what_is_here(self, capsys, data_folders):
        path = _make_small()
        (data_folders / "other").mkdir()
        path.rename(data_folders / "other" / "copy-v3")
        _make_small()
        assert main(["list"]) == 0
        rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
        episodes = str(minari.load_dataset(ID).total_episodes)
        assert rows[ID][:3] == ["generated", "600", episodes]
        assert rows["other/copy-v3"][:3] == ["local", "600", episodes]
        assert float(rows[ID][3]) > 0.1

    def test_a_broken_dataset_does_not_hide_the_others(self, capsys, data_folders):
        (data_folders / "broken-v0" / "data").mkdir(parents=True)
        (data_folders / "broken-v0" / "data" / "metadata.json").write_text("{")
        assert main(["list"]) == 0
        output = capsys.readouterr()
        assert "broken-v0" in output.out
        assert ID in output.out
        assert "metadata.json cannot be read" in output.err


class TestMake:
    def test_it_is_made_and_kept(self, capsys):
        assert main(["make", ID, "--steps", "700", "--seed", "3", "--no-progress"]) == 0
        assert minari.load_dataset(ID).total_steps == 700
        output = capsys.readouterr()
        assert output.out == ""
        assert f"{ID} is made" in output.err
        assert main(["make", ID, "--steps", "900", "--no-progress"]) == 0
        assert "exists" in (message := capsys.readouterr().err)
        assert "(700 steps, seed 3); --force makes it again" in message
        assert minari.load_dataset(ID).total_steps == 700

    @pytest.mark.parametrize("words", [["make", ID], ["check", ID], ["list"]])
    def test_a_folder_that_cannot_be_is_one_line(self, capsys, monkeypatch, words):
        monkeypatch.setenv("MINARI_DATASETS_PATH", "/proc/none")
        assert main(words) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "cannot use the folder of datasets" in line
        assert "/proc/none" in line

    def test_the_systems_own_refusal_is_one_line(self, capsys, monkeypatch):
        def full(*args, **kwargs):
            raise OSError(28, "No space left on device", "data.hdf5")

        monkeypatch.setattr(catalog, "make", full)
        assert main(["make", ID]) == 1
        assert capsys.readouterr().err == "No space left on device: data.hdf5\n"

    def test_a_broken_dataset_can_be_made_again(self, capsys):
        (_make_small() / "data" / "metadata.json").write_text("{")
        words = ["make", ID, "--steps", "500", "--no-progress"]
        assert main(words) == 1
        assert "with --force" in capsys.readouterr().err
        assert main([*words, "--force"]) == 0
        assert minari.load_dataset(ID).total_steps == 500

    def test_progress_goes_to_standard_error(self, capsys):
        assert main(["make", ID, "--steps", "500"]) == 0
        output = capsys.readouterr()
        assert output.out == ""
        assert "500/500" in output.err
        assert "reference scores: 100%" in output.err

    def test_an_unknown_id_is_one_line(self, capsys):
        assert main(["make", "iql/pointmaze/umaze-v9"]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert ID in error

    @pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal_leaves_nothing_but_what_is_finished(self, data_folders, signum, status):
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "iql_jax.datasets",
                "make",
                ID,
                "--steps",
                "49999",
                "--no-progress",
            ],
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        deadline = time.monotonic() + 60
        while not list(data_folders.glob(".iql_jax-making-*/parts-*/*.npz")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signum)
        _, error = process.communicate(timeout=60)
        assert process.returncode == status
        left = [path for path in data_folders.rglob("*") if path.is_file()]
        assert left
        assert {path.suffix if "parts-" in str(path) else path.name for path in left} == {
            ".npz",
            "lock",
        }
        assert error.count("\n") == 1
        assert f"stopped by {signal.Signals(signum).name}: " in error
        assert error.endswith(
            f" of 49,999 steps of {ID} are made and kept; the same command goes on from there\n"
        )


class TestCheck:
    def test_a_sound_dataset(self, capsys):
        _make_small(1500)
        assert main(["check", ID]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == f"{ID}: no defects"
        assert {line.split()[0] for line in lines[:-1]} == {"OK"}

    def test_a_wrong_goal_fails(self, capsys):
        path = _make_small(1500)
        with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
            file["episode_2/observations/desired_goal"][0] = np.zeros(2)
        assert main(["check", ID, "--no-progress"]) == 1
        output = capsys.readouterr()
        assert output.out.splitlines()[-1] == f"{ID}: 1 defect"
        assert "DEFECT  goals" in output.out
        assert output.err == ""

    def test_a_truncated_file_fails_in_a_line(self, capsys):
        path = _make_small() / "data" / "main_data.hdf5"
        path.write_bytes(path.read_bytes()[:5000])
        assert main(["check", ID, "--no-progress"]) == 1
        assert "DEFECT  structure" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("dataset_id", "message"),
        [
            (ID, f"python -m iql_jax.datasets make {ID} makes it"),
            ("iql/pointmaze/umaz-v0", f"did you mean {ID}"),
            ("../..", "is not in"),
            ("", "is not in"),
        ],
    )
    @pytest.mark.parametrize("command", ["check"])
    def test_a_dataset_that_is_not_here(self, capsys, command, dataset_id, message):
        assert main([command, dataset_id]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


class TestBrokenMetadata:
    """Each entry in turn is of another kind, strange or cut off: no traceback follows."""

    KEYS = (
        "action_space",
        "collection",
        "data_format",
        "env_spec",
        "eval_env_spec",
        "observation_space",
        "ref_min_score",
        "requirements",
        "total_episodes",
        "total_steps",
    )
    BROKEN = (3, '{"type": "Box", "shape": [2]}')

    def test_no_entry_breaks_the_program(self, capsys):
        file = _make_small() / "data" / "metadata.json"
        content = json.loads(file.read_text())
        for key in self.KEYS:
            for broken in (*self.BROKEN, str(content[key])[:40]):
                file.write_text(json.dumps(content | {key: broken}))
                for command in ("check", "info"):
                    assert main([command, ID, "--no-progress"]) in (0, 1)

    def test_what_is_said(self, capsys):
        file = _make_small() / "data" / "metadata.json"
        content = json.loads(file.read_text())
        for key, found in (
            ("eval_env_spec", "DEFECT  evaluation"),
            ("observation_space", "DEFECT  environment"),
            ("action_space", "DEFECT  structure"),
        ):
            file.write_text(json.dumps(content | {key: content[key][:40]}))
            assert main(["check", ID, "--no-progress"]) == 1
            assert found in capsys.readouterr().out
        file.write_text(json.dumps(content | {"eval_env_spec": "{"}))
        assert main(["info", ID, "--no-progress"]) == 0
        assert "Evaluated in an unknown environment" in capsys.readouterr().out


class TestInfo:
    def test_in_words(self, capsys):
        _make_small()
        assert main(["info", ID, "--no-progress"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        for part in (
            "A ball is driven from one random goal to the next",
            "Stands in for: D4RL/pointmaze/umaze-v2.",
            "Evaluated in PointMaze_UMaze-v3, 300 steps at most",
            "600 transitions in",
        ):
            assert part in text

    def test_what_is_not_made_yet(self, capsys):
        assert main(["info", ID]) == 0
        assert f"make {ID}" in capsys.readouterr().out

    def test_sparse_metadata(self, capsys):
        path = _make_small() / "data" / "metadata.json"
        metadata = json.loads(path.read_text())
        kept = {"dataset_id", "total_episodes", "total_steps", "data_format", "action_space"}
        path.write_text(json.dumps({key: metadata[key] for key in kept}))
        assert main(["info", ID, "--no-progress"]) == 0
        assert "No description." in capsys.readouterr().out


class TestUsage:
    @pytest.mark.parametrize("words", [[], ["paint"], ["make"], ["make", ID, "--steps", "many"]])
    def test_wrong_words(self, words, capsys):
        with pytest.raises(SystemExit) as error:
            main(words)
        assert error.value.code == 2
        assert "usage:" in capsys.readouterr().err

    def test_a_folder_that_cannot_be_used(self, capsys, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file"))
        assert main(["list"]) == 1
        assert "set MINARI_DATASETS_PATH" in capsys.readouterr().err
