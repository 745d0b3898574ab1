"""OGBench's files become Minari datasets."""

import numpy as np
import pytest
from import_files import load, ogbench_arrays, ogbench_view
from iql_jax.data.imports import ogbench
from iql_jax.data.imports.mazes import ant_maze

from iql_jax.data.episodes import read_episodes
from iql_jax.datasets import main
from iql_jax.envs.make import make_environment
from iql_jax.utils.errors import UserError

ANT = "ogbench/antmaze-medium-navigate-v0"
CUBE = "ogbench/cube-single-play-v0"


pytestmark = pytest.mark.usefixtures("data_folders")


def import_arrays(tmp_path, arrays, dataset_id, **options):
    path = tmp_path / "file.npz"
    np.savez_compressed(path, **arrays)
    return ogbench.import_ogbench(path, dataset_id, progress=False, **options)


def ant_arrays(goal=(20.0, 20.0)):
    """Positions around a goal given in OGBench's frame; that of the first task is (20, 20)."""
    arrays = ogbench_arrays()
    count = len(arrays["observations"])
    arrays["observations"][:, :2] = goal + np.random.default_rng(1).uniform(-0.6, 0.6, (count, 2))
    return arrays


class TestAntMaze:
    def test_transitions_rewards_and_episodes(self, tmp_path):
        arrays = ant_arrays()
        folder = import_arrays(tmp_path, arrays, ANT)
        expected = ogbench_view(arrays)
        for key in ("observations", "next_observations"):
            expected[key][:, :2] = (expected[key][:, :2].astype(float) - 10).astype(np.float32)
        expected["actions"] = np.clip(expected["actions"], -1 + 1e-5, 1 - 1e-5, dtype=np.float32)
        offset = expected["next_observations"][:, :2].astype(float) - 10
        expected["rewards"] = (np.hypot(*offset.T) <= 0.45).astype(np.float32)
        assert 10 < expected["rewards"].sum() < 70
        stored = load(ANT, maze_goal="stored", maze_terminate_at_success=False)
        relabelled = load(ANT, maze_terminate_at_success=False)
        for dataset in (stored, relabelled):
            for key, array in expected.items():
                assert np.array_equal(getattr(dataset.transitions, key), array), key
            assert (dataset.transitions.masks == 1).all()
        assert np.array_equal(load(ANT).transitions.masks, 1 - expected["rewards"])
        episodes = read_episodes(folder, progress=False)
        assert episodes.lengths.tolist() == [20] * 4
        assert np.flatnonzero(episodes.truncations).tolist() == [19, 39, 59, 79]

    def test_another_task(self, tmp_path):
        name = "ogbench/antmaze-medium-navigate-singletask-task2-v0"
        arrays = ant_arrays((20.0, 0.0))  # From (6, 1) to (1, 6).
        import_arrays(tmp_path, arrays, name)
        dataset = load(name)
        assert dataset.transitions.rewards.any()
        env = make_environment(dataset.environment)
        observation, _ = env.reset(seed=0)
        # OGBench's (0, 20), and its goal (20, 0).
        assert np.abs(observation[:2] - [-10, 10]).max() <= 1 + 1e-6
        assert env.unwrapped.goal.tolist() == [10, -10]
        assert env.unwrapped.ant_env.dt == pytest.approx(0.1)
        env.close()

    @pytest.mark.parametrize(
        "words", ["singletask-task0", "singletask-task6", "singletask-task12", "task-9", "taskx"]
    )
    def test_a_task_that_there_is_not(self, tmp_path, words):
        name = f"ogbench/antmaze-medium-navigate-{words}-v0"
        with pytest.raises(UserError, match="there are task1, task2, task3, task4, task5"):
            import_arrays(tmp_path, ant_arrays(), name)

    @pytest.mark.parametrize(
        ("words", "number"),
        [("", 1), ("-singletask", 1), ("-singletask-task1", 1), ("-singletask-task5", 5)],
    )
    def test_the_tasks_number(self, tmp_path, words, number):
        name = f"tasks/antmaze-medium-navigate{words}-v0"
        assert ogbench._maze(name, ant_arrays(), tmp_path)[1] == number

    @pytest.mark.parametrize("size", ["medium", "large", "giant"])
    def test_every_task_begins_and_ends_in_free_cells(self, size):
        drawing, tasks, _ = ogbench._MAZES[size]
        assert len({len(row) for row in drawing}) == 1
        assert len(tasks) == 5
        for start, goal in tasks:
            assert drawing[start[0]][start[1]] == drawing[goal[0]][goal[1]] == " "
            frame = ant_maze(drawing, start, goal, origin=(1, 1))
            for mark, cell in (("r", start), ("g", goal)):
                # OGBench's ij_to_xy: 4 m a cell, row 1 and column 1 at 0.
                xy = np.array([4 * cell[1] - 4, 4 * cell[0] - 4]) + frame.shift
                assert frame.map.cell_to_xy(frame.map.marked(mark)).tolist() == [xy.tolist()]

    @pytest.mark.parametrize("name", ["antmaze-teleport-navigate", "pointmaze-medium-navigate"])
    def test_mazes_that_cannot_be_matched_have_no_environment(self, tmp_path, capsys, name):
        import_arrays(tmp_path, ogbench_arrays(), f"ogbench/{name}-v0", reward="zero")
        assert "only training is possible" in capsys.readouterr().err
        assert load(f"ogbench/{name}-v0").environment is None


class TestRewards:
    def test_none_is_an_error(self, tmp_path, capsys, data_folders):
        np.savez(tmp_path / "file.npz", **ogbench_arrays())
        words = ["import-ogbench", str(tmp_path / "file.npz"), "--id", CUBE, "--no-progress"]
        assert main(words) == 1
        error = capsys.readouterr().err
        assert "has no rewards" in error
        assert error.count("\n") == 1
        assert [path for path in data_folders.rglob("*") if path.is_file()] == []
        assert main([*words, "--reward", "zero"]) == 0
        assert "(--reward zero)" in capsys.readouterr().err
        assert not load(CUBE).transitions.rewards.any()

    def test_the_files_own(self, tmp_path):
        arrays = ogbench_arrays()
        rng = np.random.default_rng(4)
        arrays["rewards"] = -rng.integers(0, 3, 84).astype(np.float32)
        arrays["masks"] = (rng.uniform(size=84) < 0.8).astype(np.float32)
        import_arrays(tmp_path, arrays, CUBE)
        transitions, rows = load(CUBE).transitions, ~arrays["terminals"]
        assert np.array_equal(transitions.rewards, arrays["rewards"][rows])
        assert np.array_equal(transitions.masks, arrays["masks"][rows])


class TestFailures:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda a: a.pop("terminals"), "lacks terminals"),
            (lambda a: a.update(actions=a["actions"][:-1]), "'actions'"),
            (lambda a: a.update(observations=np.zeros((84, 6), np.float32)), "names another task"),
            (lambda a: a.update(observations=np.zeros((84, 8, 8, 3), np.uint8)), "vectors"),
            (lambda a: a.update(observations=np.zeros((84, 29), np.uint8)), "not floating-point"),
            (lambda a: a["actions"].__setitem__((3, 1), np.inf), "in row 3"),
            (lambda a: a.update(observations=a["observations"] * 2), "another maze's"),
            (lambda a: a.update(terminals=np.ones(84, bool)), "no transition"),
            (lambda a: a.update({key: a[key][:0] for key in a}), "no rows"),
        ],
    )
    def test_a_wrong_file(self, tmp_path, capsys, data_folders, change, message):
        arrays = ant_arrays()
        change(arrays)
        np.savez(tmp_path / "file.npz", **arrays)
        words = ["import-ogbench", str(tmp_path / "file.npz"), "--id", ANT, "--no-progress"]
        assert main(words) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert [path for path in data_folders.rglob("*") if path.is_file()] == []

    def test_no_file_of_the_format(self, tmp_path, capsys):
        file = tmp_path / "file.npz"
        messages = []
        for content in (None, b"text", b"\x80\x04K\x01."):
            if content is not None:
                file.write_bytes(content)
            assert main(["import-ogbench", str(file), "--id", ANT, "--no-progress"]) == 1
            messages.append(capsys.readouterr().err)
        np.savez_compressed(file, **ogbench_arrays())
        file.write_bytes(file.read_bytes()[:-2000])
        assert main(["import-ogbench", str(file), "--id", ANT, "--no-progress"]) == 1
        messages.append(capsys.readouterr().err)
        # A compression that zipfile does not know, in the local header and in the directory.
        np.savez(file, **ogbench_arrays())
        content = bytearray(file.read_bytes())
        content[8] = content[content.find(b"PK\x01\x02") + 10] = 99
        file.write_bytes(content)
        assert main(["import-ogbench", str(file), "--id", ANT, "--no-progress"]) == 1
        messages.append(capsys.readouterr().err)
        with open(file, "wb") as stream:
            np.save(stream, np.zeros(3))
        assert main(["import-ogbench", str(file), "--id", ANT, "--no-progress"]) == 1
        messages.append(capsys.readouterr().err)
        assert "there is no file" in messages[0]
        assert all("cannot be read as .npz" in message for message in messages[1:5])
        assert "no .npz file" in messages[5]
        assert all(message.count("\n") == 1 for message in messages)

    def test_an_id_that_exists(self, tmp_path, capsys):
        import_arrays(tmp_path, ant_arrays(), ANT)
        words = ["import-ogbench", str(tmp_path / "file.npz"), "--id", ANT, "--no-progress"]
        assert main(words) == 1
        assert "--force replaces it" in capsys.readouterr().err
        assert main([*words, "--force"]) == 0
