"""The command line of the datasets."""

import json
import subprocess
import sys

import minari
import numpy as np
import pytest
from minari_datasets import (
    BOX,
    GOAL_SPACE,
    change_metadata,
    maze_spec,
    point_episode,
    write_box,
    write_dataset,
)

from iql_jax import datasets
from iql_jax.datasets import main
from iql_jax.generation import catalog

ID = "iql/pointmaze/umaze-v0"
CORRIDOR = [[1, 1, 1, 1], [1, "r", "g", 1], [1, 1, 1, 1]]

pytestmark = pytest.mark.usefixtures("data_folders")


@pytest.fixture
def generated(monkeypatch):
    """Small datasets in place of those that take minutes."""

    def generate(dataset_id, *, steps, seed, progress, force):
        ends = [-0.5, 0.0, 0.5] * min(steps, 2)
        spec = maze_spec(CORRIDOR)
        return write_dataset(dataset_id, [point_episode(0, ends, 0.5)], GOAL_SPACE, env_spec=spec)

    monkeypatch.setattr(datasets, "generate", generate)


class TestList:
    @pytest.mark.skipif(sys.platform != "linux", reason="asks a shell for a pipe's statuses")
    def test_a_reader_that_leaves_is_no_failure(self):
        script = f"{sys.executable} -m iql_jax.datasets list | true; exit ${{PIPESTATUS[0]}}"
        ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        assert ended.returncode == 0
        assert "BrokenPipe" not in ended.stderr

    def test_what_is_here_and_what_can_be_generated(self, capsys, data_folders):
        write_box()
        (data_folders / "broken-v0" / "data").mkdir(parents=True)
        (data_folders / "broken-v0" / "data" / "metadata.json").write_text("{")
        assert main(["list"]) == 0
        output = capsys.readouterr()
        rows = dict(line.split(None, 1) for line in output.out.splitlines())
        assert set(rows) == {BOX, "broken-v0", *catalog.GENERATED}
        assert rows[BOX].startswith("9 steps")
        assert rows[ID] == "not generated"
        assert "metadata.json cannot be read" in rows["broken-v0"]


class TestGenerate:
    def test_it_is_generated(self, capsys, generated):
        assert main(["generate", ID, "--steps", "1"]) == 0
        assert f"{ID} (" in capsys.readouterr().err
        assert minari.load_dataset(ID).total_steps == 2

    @pytest.mark.parametrize("words", [["generate", ID], ["info", ID], ["list"]])
    def test_a_folder_that_cannot_be_is_one_line(self, capsys, monkeypatch, words):
        monkeypatch.setenv("MINARI_DATASETS_PATH", "/proc/none")
        assert main(words) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "set MINARI_DATASETS_PATH" in line

    def test_the_systems_own_refusal_is_one_line(self, capsys, monkeypatch):
        def full(*args, **kwargs):
            raise OSError(28, "No space left on device", "data.hdf5")

        monkeypatch.setattr(datasets, "generate", full)
        assert main(["generate", ID]) == 1
        assert capsys.readouterr().err == "No space left on device: data.hdf5\n"


class TestInfo:
    def test_a_dataset(self, capsys, generated):
        main(["generate", ID])
        assert main(["info", ID, "--no-progress"]) == 0
        lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
        assert lines["transitions"].startswith("5 in 1 episodes of 5 to 5")
        assert lines["rewards"] == "0 to 1, mean 0.4"
        assert lines["environment"].startswith("Maze-v3, 300 steps at most")
        assert lines["score"] == "success"


class TestCheck:
    def test_a_sound_dataset(self, capsys, generated):
        main(["generate", ID])
        assert main(["check", ID]) == 0
        output = capsys.readouterr().out
        assert "built" in output
        assert "FAILED" not in output

    def test_a_truncated_file_and_an_environment_that_does_not_fit_are_defects(self, capsys):
        folder = write_box()
        assert main(["check", BOX]) == 1
        assert "FAILED        the dataset's observations have 4 numbers" in capsys.readouterr().out
        path = folder / "data" / "main_data.hdf5"
        path.write_bytes(path.read_bytes()[:5000])
        assert main(["check", BOX]) == 1
        output = capsys.readouterr()
        assert "FAILED" in output.out
        assert output.out.count("\n") == 1

    def test_a_stranger_is_not_built(self, capsys):
        stranger = json.loads(maze_spec(CORRIDOR)) | {"entry_point": "no_such_module:Env"}
        change_metadata(write_box(), env_spec=json.dumps(stranger))
        assert main(["check", BOX]) == 0
        assert "not built     " in capsys.readouterr().out
        assert main(["check", BOX, "--trust_environment"]) == 1
        assert "ModuleNotFoundError" in capsys.readouterr().out

    @pytest.mark.parametrize("dataset_id", [ID, "../.."])
    def test_a_dataset_that_is_not_here(self, capsys, dataset_id):
        assert main(["check", dataset_id]) == 1
        assert "is not in" in "".join(capsys.readouterr())


def test_no_broken_entry_of_the_metadata_breaks_the_program(capsys):
    """Each entry in turn is of another kind, strange or cut off: no traceback follows."""
    ends = np.array([-0.5, 0.0, 0.5])
    folder = write_dataset(
        BOX, [point_episode(0, ends, 0.5)], GOAL_SPACE, env_spec=maze_spec(CORRIDOR)
    )
    file = folder / "data" / "metadata.json"
    content = json.loads(file.read_text()) | {"requirements": ["numpy"], "collection": {}}
    content |= {"ref_min_score": 0.0, "eval_env_spec": content["env_spec"]}
    for key in ("total_episodes", "total_steps", "data_format", "observation_space", *content):
        for broken in (3, '{"type": "Box", "shape": [2]}', str(content[key])[:40]):
            file.write_text(json.dumps(content | {key: broken}))
            assert main(["info", BOX, "--no-progress"]) in (0, 1)
