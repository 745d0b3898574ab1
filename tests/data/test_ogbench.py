"""OGBench's files are datasets."""

import zipfile

import numpy as np
import pytest
from data_files import ogbench_arrays, ogbench_view, without
from minari_datasets import load

from iql_jax.data import read_ogbench
from iql_jax.data.maze_frames import ant_maze
from iql_jax.envs.make import make_environment
from iql_jax.utils.errors import UserError

ANT = "antmaze-medium-navigate-v0.npz"
CUBE = "cube-single-play-v0.npz"


@pytest.fixture
def load_arrays(tmp_path):
    """Writes a file of this name, and loads it."""

    def load_file(arrays, name=ANT, **choices):
        np.savez_compressed(tmp_path / name, **arrays)
        return load(tmp_path / name, **choices)

    return load_file


def ant_arrays(goal=(20.0, 20.0)):
    """Positions around a goal given in OGBench's frame; that of the first task is (20, 20)."""
    arrays = ogbench_arrays()
    count = len(arrays["observations"])
    arrays["observations"][:, :2] = goal + np.random.default_rng(1).uniform(-0.6, 0.6, (count, 2))
    return arrays


class TestAntMaze:
    @pytest.mark.parametrize("goal", ["stored", "eval"])
    def test_transitions_rewards_and_episodes(self, load_arrays, goal):
        arrays = ant_arrays()
        expected = ogbench_view(arrays)
        for key in ("observations", "next_observations"):
            expected[key][:, :2] = (expected[key][:, :2].astype(float) - 10).astype(np.float32)
        expected["actions"] = np.clip(expected["actions"], -1 + 1e-5, 1 - 1e-5, dtype=np.float32)
        offset = expected["next_observations"][:, :2].astype(float) - 10
        expected["rewards"] = (np.hypot(*offset.T) <= 0.5).astype(np.float32)
        assert 10 < expected["rewards"].sum() < 70
        dataset = load_arrays(arrays, maze_goal=goal, next_actions=True)
        for key, array in expected.items():
            np.testing.assert_array_equal(dataset.transitions[key], array, key)
        np.testing.assert_array_equal(dataset.transitions["masks"], 1 - expected["rewards"])
        last = np.flatnonzero(dataset.transitions["next_action_masks"] == 0)
        assert last.tolist() == [19, 39, 59, 79]

    def test_another_task(self, load_arrays):
        arrays = ant_arrays((20.0, 0.0))  # From (6, 1) to (1, 6).
        dataset = load_arrays(arrays, task="antmaze-medium-navigate-singletask-task2-v0")
        assert dataset.transitions["rewards"].any()
        env = make_environment(dataset.environment)
        observation, _ = env.reset(seed=0)
        # OGBench's (0, 20), and its goal (20, 0).
        assert np.abs(observation[:2] - [-10, 10]).max() <= 1 + 1e-6
        assert env.unwrapped.goal.tolist() == [10, -10]
        assert env.unwrapped.ant_env.dt == pytest.approx(0.1)
        env.close()

    @pytest.mark.parametrize(
        ("words", "number"),
        [("", 1), ("-singletask", 1), ("-singletask-task1", 1), ("-task5", 5)],
    )
    @pytest.mark.parametrize("version", ["", "-v0"])
    def test_the_tasks_number(self, words, number, version):
        name = f"antmaze-medium-navigate{words}{version}"
        assert read_ogbench._task_number(name, 5) == number

    @pytest.mark.parametrize("words", ["task0", "task6", "task12", "task-9", "taskx"])
    def test_a_task_that_there_is_not(self, words):
        with pytest.raises(UserError, match="there are task1 to task5"):
            read_ogbench._task_number(f"antmaze-medium-navigate-{words}-v0", 5)

    @pytest.mark.parametrize("size", ["medium", "large", "giant"])
    def test_every_task_starts_and_ends_in_free_cells(self, size):
        drawing, tasks = read_ogbench._MAZES[size][0], read_ogbench.maze_tasks(size)
        assert len({len(row) for row in drawing}) == 1
        assert len(tasks) == 5
        for start, goal in tasks:
            assert drawing[start[0]][start[1]] == drawing[goal[0]][goal[1]] == " "
            frame = ant_maze(drawing, start, goal)
            for mark, cell in (("r", start), ("g", goal)):
                # OGBench's ij_to_xy: 4 m a cell, row 1 and column 1 at 0.
                xy = np.array([4 * cell[1] - 4, 4 * cell[0] - 4]) + frame.shift
                assert frame.map.cell_to_xy(frame.map.marked(mark)).tolist() == [xy.tolist()]


@pytest.mark.parametrize("name", ["antmaze-teleport-navigate", "pointmaze-medium-navigate"])
def test_mazes_that_cannot_be_matched_have_no_environment(load_arrays, name):
    dataset = load_arrays(ogbench_arrays(), f"{name}-v0.npz")
    assert dataset.environment is None
    assert any("nothing can be evaluated" in note for note in dataset.record["notes"])


def test_a_task_that_is_none_of_its_is_refused(load_arrays):
    with pytest.raises(UserError, match=r"config.task is 'task2'"):
        load_arrays(ogbench_arrays(), task="task2")


def test_rewards_are_the_files_or_zero(load_arrays):
    arrays = ogbench_arrays()
    dataset = load_arrays(arrays, CUBE)
    assert not dataset.transitions["rewards"].any()
    assert any("enough for cloning" in note for note in dataset.record["notes"])
    rng = np.random.default_rng(4)
    arrays["rewards"] = -rng.integers(0, 3, 84).astype(np.float32)
    arrays["masks"] = (rng.uniform(size=84) < 0.8).astype(np.float32)
    transitions, rows = load_arrays(arrays, CUBE).transitions, ~arrays["terminals"]
    np.testing.assert_array_equal(transitions["rewards"], arrays["rewards"][rows])
    np.testing.assert_array_equal(transitions["masks"], arrays["masks"][rows])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("terminals"), "lacks terminals"),
        (lambda a: a.update(observations=np.zeros((84, 6), np.float32)), "another task's file"),
        (lambda a: a.update(observations=np.array([[{}]] * 84)), "cannot be read"),
        (lambda a: a.update(observations=a["observations"] * 2), "another maze's"),
        (lambda a: a.update(terminals=np.ones(84, bool)), "no transition"),
    ],
)
def test_a_wrong_file(load_arrays, change, message):
    arrays = ant_arrays()
    change(arrays)
    with pytest.raises(UserError, match=message) as error:
        load_arrays(arrays)
    assert "\n" not in str(error.value)


def test_no_file_of_the_format(tmp_path):
    file = tmp_path / ANT
    with pytest.raises(UserError, match="there is no file"):
        load(file)
    contents = [b"text", b"\x80\x04K\x01."]
    np.savez(file, **ogbench_arrays())
    contents.append(file.read_bytes()[:-2000])
    header = b"(84, 29), }", b"(84000000000, 29), }"  # Of terabytes, none of which are there.
    contents.append(file.read_bytes().replace(header[0] + b" " * 9, header[1]))
    assert header[1] in contents[-1]
    for content in contents:
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot be read"):
            load(file)
    np.savez(file, **without(ogbench_arrays(), "terminals"))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("terminals.npy", b"")
    with pytest.raises(UserError, match=r"cannot be read"):
        load(file)
