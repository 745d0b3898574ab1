"""D4RL's files become Minari datasets that hold D4RL's transitions, to the bit."""

import json
import os
import signal

import gymnasium as gym
import h5py
import minari
import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from import_files import d4rl_arrays, d4rl_view, official_episodes, write_hdf5

from iql_jax.config import Config
from iql_jax.data.__main__ import main
from iql_jax.data.episodes import read_episodes, read_metadata
from iql_jax.data.imports import writing
from iql_jax.data.imports.d4rl import import_d4rl
from iql_jax.data.imports.d4rl_tasks import TASKS, find_task
from iql_jax.data.imports.d4rl_view import kept_rows
from iql_jax.data.imports.mazes import rewarded_point
from iql_jax.data.load import load_dataset
from iql_jax.data.scores import d4rl_reference
from iql_jax.environments import make_environment
from iql_jax.errors import UserError

ID = "d4rl/hopper/medium-v2"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("IQL_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "datasets"


def import_arrays(tmp_path, arrays, dataset_id=ID, more=None, **options):
    path = write_hdf5(tmp_path / "file.hdf5", arrays, **(more or {}))
    return import_d4rl(path, dataset_id, progress=False, **options)


def load(dataset_id=ID, **settings):
    return load_dataset(Config(dataset=dataset_id, eval_episodes=0, progress=False, **settings))


def without(arrays, *keys):
    return {key: array for key, array in arrays.items() if key not in keys}


def assert_equal(transitions, expected):
    limit = np.float32(1 - 1e-5)  # IQL's official code clips actions so.
    expected = {**expected, "actions": np.clip(expected["actions"], -limit, limit)}
    for field, array in expected.items():
        found = getattr(transitions, field)
        assert found.dtype == array.dtype == np.float32
        assert np.array_equal(found, array), field


class TestTransitions:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_they_are_d4rls_to_the_bit(self, tmp_path, dtype):
        arrays = without(d4rl_arrays(dtype=dtype), "next_observations")
        arrays["actions"][7, 1] = 1.0
        import_arrays(tmp_path, arrays)
        view, dataset = d4rl_view(arrays), load()
        assert 0 < len(view.rows) < 599
        assert_equal(dataset.transitions, view.arrays())
        assert (dataset.transitions.masks == 0).any()

    def test_without_timeouts_d4rls_count_is_repeated(self, tmp_path, capsys):
        arrays = without(d4rl_arrays(rows=3500), "next_observations", "timeouts")
        arrays["terminals"] = np.isin(np.arange(3500), [10, 1200, 1201, 2209])
        view = d4rl_view(arrays)
        # The count goes on at 1 after a terminal: 11 + 999 is a limit; then 1200 comes first.
        assert set(range(3499)) - set(view.rows) == {1009, 2200, 3208}
        import_arrays(tmp_path, arrays)
        assert_equal(load().transitions, view.arrays())
        assert "1000 steps (D4RL's)" in capsys.readouterr().err

    def test_stored_next_observations_are_taken(self, tmp_path):
        arrays = d4rl_arrays()
        import_arrays(tmp_path, arrays)
        view = d4rl_view(arrays)
        expected = view.arrays() | {"next_observations": arrays["next_observations"][view.rows]}
        assert_equal(load().transitions, expected)
        ends = np.array(view.masks) == 0
        assert not np.array_equal(expected["next_observations"], view.arrays()["next_observations"])
        assert np.array_equal(
            expected["next_observations"][~ends], view.arrays()["next_observations"][~ends]
        )

    def test_an_unmarked_jump_ends_an_episode(self, tmp_path):
        arrays = d4rl_arrays(rows=30)
        arrays |= {"terminals": np.zeros(30, bool), "timeouts": np.zeros(30, bool)}
        arrays["next_observations"] = np.concatenate(
            [arrays["observations"][1:], arrays["observations"][:1]]
        )
        arrays["next_observations"][11] += 1
        arrays["next_observations"][20, 0] += np.float32(3e-7)  # Rounding is no jump.
        episodes = read_episodes(import_arrays(tmp_path, arrays), progress=False)
        assert episodes.lengths.tolist() == [12, 17]
        assert not episodes.terminations.any()
        assert np.flatnonzero(episodes.truncations).tolist() == [11, 28]
        assert np.array_equal(
            load().transitions.next_observations[11], arrays["next_observations"][11]
        )

    def test_timeouts_can_be_kept(self, tmp_path):
        arrays = d4rl_arrays()
        import_arrays(tmp_path, arrays, keep_timeouts=True)
        expected = without(arrays, "terminals", "timeouts")
        expected["masks"] = 1 - arrays["terminals"].astype(np.float32)
        assert_equal(load().transitions, expected)

    def test_flags_and_rewards_may_be_columns(self, tmp_path):
        arrays = without(d4rl_arrays(), "next_observations")
        view = d4rl_view(arrays)
        arrays |= {key: arrays[key][:, None] for key in ("rewards", "terminals", "timeouts")}
        arrays["terminals"] = arrays["terminals"].astype(np.float32)
        import_arrays(tmp_path, arrays)
        assert_equal(load().transitions, view.arrays())

    @pytest.mark.parametrize("stored", [False, True])
    def test_episodes_are_iqls(self, tmp_path, stored):
        arrays = d4rl_arrays()
        expected = official_episodes(d4rl_view(arrays))
        if not stored:
            arrays = without(arrays, "next_observations")
        episodes = read_episodes(import_arrays(tmp_path, arrays), progress=False)
        assert episodes.lengths.tolist() == expected
        last = np.cumsum(expected) - 1
        inside = np.setdiff1d(np.arange(sum(expected)), last)
        assert not (episodes.terminations | episodes.truncations)[inside].any()
        assert (episodes.terminations ^ episodes.truncations)[last].all()

    @settings(deadline=None)
    @given(
        st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40),
        st.booleans(),
        st.integers(1, 6),
    )
    def test_the_rows_that_are_kept(self, flags, has_timeouts, time_limit):
        terminals, timeouts = np.array(flags).T
        count = np.zeros((len(flags), 1), np.float32)
        arrays = {"observations": count, "actions": count, "rewards": count[:, 0]}
        arrays["terminals"] = terminals
        if has_timeouts:
            arrays["timeouts"] = timeouts
        kept = kept_rows(terminals, timeouts if has_timeouts else None, time_limit)
        assert np.flatnonzero(kept).tolist() == d4rl_view(arrays, time_limit).rows


class TestMetadata:
    def test_scores_and_environment(self, tmp_path):
        more = {"metadata__algorithm": np.bytes_("SAC"), "metadata__iteration": np.int32(7)}
        more |= {
            "metadata__policy__fc0__weight": np.zeros((2, 2)),
            "infos__qpos": np.zeros((600, 6)),
        }
        metadata = read_metadata(import_arrays(tmp_path, d4rl_arrays(), more=more))
        assert metadata["algorithm_name"] == "SAC"
        assert metadata["d4rl"]["metadata"] == {"algorithm": "SAC", "iteration": 7}
        assert metadata["d4rl"]["name"] == "hopper-medium-v2"
        assert "not the same" in metadata["description"]
        rule = load().score_rule
        assert rule.score([(3234.3 - 20.272305) / 2], None) == pytest.approx(50)

    def test_an_unknown_task_is_imported_and_said(self, tmp_path, capsys):
        import_arrays(tmp_path, d4rl_arrays(), "mine/robot-v0")
        assert "names no task of D4RL's" in capsys.readouterr().err
        dataset = load("mine/robot-v0")
        assert dataset.recipe is None
        assert dataset.score_rule.kind == "none"

    def test_kitchen_has_no_environment(self, tmp_path, capsys):
        arrays = d4rl_arrays(observation_dim=60, action_dim=9)
        import_arrays(tmp_path, arrays, "d4rl/kitchen/complete-v0")
        assert "only training is possible" in capsys.readouterr().err
        assert load("d4rl/kitchen/complete-v0").recipe is None

    def test_contact_forces_of_zero_stay_so_in_the_evaluation(self, tmp_path):
        arrays = d4rl_arrays(observation_dim=111, action_dim=8)
        for name in ("observations", "next_observations"):
            arrays[name][:, 27:] = 0
        import_arrays(tmp_path, arrays, "d4rl/ant/medium-v2")
        env = make_environment(load("d4rl/ant/medium-v2").recipe)
        env.reset(seed=0)
        assert not np.any([env.step(env.action_space.sample())[0][27:] for _ in range(20)])
        env.close()


SOURCE = {
    "hopper-random-v0": (-20.272305, 3234.3),
    "halfcheetah-full-replay-v2": (-280.178953, 12135.0),
    "walker2d-medium-expert-v1": (1.629008, 4592.3),
    "ant-medium-replay-v2": (-325.6, 3879.7),
    "antmaze-large-diverse-v0": (0.0, 1.0),
    "maze2d-open-v0": (0.01, 20.66),
    "maze2d-umaze-v0": (0.94, 62.6),
    "maze2d-umaze-v1": (23.85, 161.86),
    "maze2d-large-dense-v1": (30.569041, 303.4857382709002),
    "maze2d-medium-dense-v0": (19.477620, 96.03474232952358),
    "pen-human-v1": (96.262799, 3076.8331017826877),
    "hammer-cloned-v0": (-274.856578, 12794.134825156867),
    "door-expert-v1": (-56.512833, 2880.5693087298737),
    "relocate-human-longhorizon-v1": (-6.425911, 4233.877797728884),
    "kitchen-mixed-v0": (0.0, 4.0),
}
"""A sample of d4rl/infos.py and of the registrations."""


class TestNames:
    @pytest.mark.parametrize("name", SOURCE)
    def test_references(self, name):
        assert d4rl_reference(name) == SOURCE[name]
        found = find_task("d4rl/" + name.replace("-", "/", 1))
        assert found is not None
        assert found[0] == name

    def test_time_limits(self):
        limits = {"maze2d-umaze-v0": 150, "maze2d-umaze-v1": 300, "maze2d-large-dense-v0": 600}
        limits |= {
            "antmaze-umaze-diverse-v0": 700,
            "antmaze-large-play-v2": 1000,
            "pen-human-v1": 100,
        }
        assert {name: find_task(name)[1].time_limit for name in limits} == limits

    @pytest.mark.parametrize(
        "dataset_id",
        [
            "d4rl/antmaze/ultra-diverse-v0",
            "d4rl/bullet-hopper/medium-v0",
            "d4rl/maze2d/eval-umaze-v1",
        ],
    )
    def test_other_tasks_are_not_taken_for_known_ones(self, dataset_id):
        assert find_task(dataset_id) is None

    @pytest.mark.parametrize("name", ["ant2-medium-v0", "minigrid-fourrooms-v0", "hopper2", ""])
    def test_no_reference(self, name):
        assert d4rl_reference(name) is None


def d4rl_is_wall(drawing, start, point):
    """Whether D4RL's AntMaze has a wall at a point of its own frame."""
    for i, row in enumerate(drawing):
        for j, cell in enumerate(row):
            x, y = 4 * (j - start[1]), 4 * (i - start[0])
            if cell == "#" and abs(point[0] - x) < 2 and abs(point[1] - y) < 2:
                return True
    return False


def maze2d_is_wall(drawing, point):
    """Whether D4RL's Maze2D has a wall at a position as observed, the ball's zero being at 1.2."""
    for i, row in enumerate(drawing):
        for j, cell in enumerate(row):
            if cell == "#" and max(abs(point[0] + 1.2 - i - 1), abs(point[1] + 1.2 - j - 1)) < 0.5:
                return True
    return False


class TestFrames:
    @pytest.mark.parametrize("name", ["antmaze-umaze", "antmaze-medium", "antmaze-large"])
    def test_d4rls_ant_walls_are_where_the_evaluation_has_them(self, name):
        make = TASKS[name].maze
        drawing, start, goal = make.args[0], make.keywords["start"], make.keywords["goal"]
        frame = make()
        size = 4 * np.array([len(drawing[0]), len(drawing)])
        points = np.random.default_rng(0).uniform(-6, size - 6, (800, 2))
        walls = [d4rl_is_wall(drawing, start, point) for point in points]
        assert 0.2 < np.mean(walls) < 0.8
        assert (~frame.map.is_free(points + frame.shift) == walls).all()
        for mark, cell in (("r", start), ("g", goal)):
            origin = 4 * (np.array(cell) - start)[::-1]
            assert frame.map.cell_to_xy(frame.map.marked(mark)).tolist() == [
                (origin + frame.shift).tolist()
            ]

    @pytest.mark.parametrize("name", ["open-v0", "umaze-v1", "medium-v1", "large-dense-v1"])
    def test_d4rls_point_walls_are_where_the_evaluation_has_them(self, name):
        _, task = find_task(f"maze2d-{name}")
        drawing, goal = task.maze.args[0], task.maze.keywords["goal"]
        frame = task.maze()
        points = np.random.default_rng(0).uniform(-0.7, [len(drawing), len(drawing[0])], (800, 2))
        walls = [maze2d_is_wall(drawing, point) for point in points]
        inside = (points < np.array([len(drawing), len(drawing[0])]) - 0.7).all(axis=1)
        walls = np.array(walls) | ~inside
        assert (~frame.map.is_free(points + frame.shift) == walls).all()
        assert np.allclose(np.array(goal) + frame.shift, frame.rewarded)
        assert np.allclose(frame.map.cell_to_xy(frame.map.marked("g")), [frame.goal])

    def test_the_goal_is_found_from_the_rewarded_positions(self):
        rng = np.random.default_rng(1)
        goal = np.array([3.7, -2.1])
        points = goal + rng.uniform(-0.5, 0.5, (20_000, 2))
        points = points[np.linalg.norm(points - goal, axis=1) <= 0.5]
        for seen in (points, points[points[:, 0] > goal[0]]):
            found, error = rewarded_point(seen, 0.5)
            assert np.linalg.norm(goal - found) <= error + 0.01
        assert rewarded_point(points, 0.5)[1] < 0.1
        assert rewarded_point(np.zeros((0, 2)), 0.5) is None
        assert rewarded_point(np.array([[0.0, 0.0], [2.0, 0.0]]), 0.5) is None


def ant_maze_arrays(goal=(20.7, 20.8), rows=500):
    """Positions near the goal of medium; rewards and terminals as D4RL's relabelling makes them."""
    arrays = without(d4rl_arrays(rows, 29, 8), "next_observations")
    rng = np.random.default_rng(2)
    arrays["observations"][:, :2] = np.array(goal) + rng.uniform(-1.2, 1.2, (rows, 2))
    near = np.linalg.norm(arrays["observations"][1:, :2] - goal, axis=1) <= 0.5
    arrays["rewards"] = np.concatenate([near, [False]]).astype(np.float32)
    return arrays | {"terminals": arrays["rewards"].copy()}


class TestAntMaze:
    ID = "d4rl/antmaze/medium-play-v2"

    def test_d4rls_rewards_and_terminals_can_be_had(self, tmp_path):
        arrays = ant_maze_arrays()
        import_arrays(tmp_path, arrays, self.ID)
        expected = d4rl_view(arrays).arrays()
        for key in ("observations", "next_observations"):
            expected[key][:, :2] = (expected[key][:, :2].astype(float) - 10).astype(np.float32)
        dataset = load(self.ID, maze_goal="stored", maze_terminate_at_success=False)
        assert_equal(dataset.transitions, expected)
        np.testing.assert_allclose(dataset.recipe.maze.goal, [10.7, 10.8], atol=0.1)
        assert 10 < dataset.transitions.rewards.sum() == (dataset.transitions.masks == 0).sum()

    def test_by_default_rewards_are_for_the_evaluations_goal(self, tmp_path, capsys):
        arrays = ant_maze_arrays()
        folder = import_arrays(tmp_path, arrays, self.ID)
        assert "0.7 m" not in (said := capsys.readouterr().err)
        assert "refer to a goal at (10.7" in said
        goal = read_episodes(folder, progress=False).observations["desired_goal"]
        assert np.allclose(goal, [10.7, 10.8], atol=0.1)
        assert (goal == goal[0]).all()
        assert np.allclose(read_metadata(folder)["rewarded_goal"], goal[0])
        dataset = load(self.ID)
        position = dataset.transitions.next_observations[:, :2]
        expected = np.linalg.norm(position - np.float32([10, 10]), axis=1) <= 0.45
        assert expected.any()
        assert np.array_equal(dataset.transitions.rewards, expected)
        assert dataset.score_rule.kind == "success"

    def test_the_evaluation_has_d4rls_ant_start_and_goal(self, tmp_path):
        import_arrays(tmp_path, ant_maze_arrays(), self.ID)
        recipe = load(self.ID).recipe
        env = make_environment(recipe)
        observation, _ = env.reset(seed=3)
        assert np.abs(observation[:2] - [-10, -10]).max() <= 1 + 1e-6
        assert env.unwrapped.goal.tolist() == [10, 10]
        ant = env.unwrapped.ant_env
        assert ant.dt == pytest.approx(0.1)
        assert np.abs(ant.model.actuator_gear[:, 0]).tolist() == [30] * 8
        assert np.allclose(ant.model.geom_solimp[:, :3], [0.8, 0.8, 0.01])
        env.close()

    def test_its_model_differs_from_gymnasiums_in_three_things_only(self, tmp_path):
        folder = import_arrays(tmp_path, ant_maze_arrays(), self.ID)
        own = mujoco.MjModel.from_xml_path(str(folder / "data" / "ant.xml"))
        env = gym.make("Ant-v5").unwrapped
        fields = ("body_mass", "body_inertia", "dof_armature", "dof_damping", "jnt_range")
        fields += ("geom_friction", "geom_solref", "geom_size", "geom_margin", "actuator_ctrlrange")
        for field in fields:
            assert np.array_equal(getattr(own, field), getattr(env.model, field)), field
        assert own.opt.timestep == 2 * env.model.opt.timestep
        env.close()

    def test_another_mazes_file_is_refused(self, tmp_path):
        with pytest.raises(UserError, match="another maze's file"):
            import_arrays(tmp_path, ant_maze_arrays(), "d4rl/antmaze/umaze-v2")

    def test_a_file_without_rewards_is_said(self, tmp_path, capsys):
        arrays = ant_maze_arrays()
        arrays |= {key: np.zeros(500, np.float32) for key in ("rewards", "terminals")}
        import_arrays(tmp_path, arrays, self.ID)
        assert "do not tell the goal" in capsys.readouterr().err


class TestMaze2D:
    ID = "d4rl/maze2d/umaze-v1"

    def test_transitions_and_environment(self, tmp_path):
        arrays = without(d4rl_arrays(300, 4, 2), "next_observations")
        arrays["observations"][:, :2] = np.random.default_rng(3).uniform(0.8, 1.2, (300, 2))
        arrays["rewards"] = np.float32(np.arange(300) % 2)
        import_arrays(tmp_path, arrays, self.ID)
        expected = d4rl_view(arrays).arrays()
        for key in ("observations", "next_observations"):
            expected[key][:, :2] = (expected[key][:, :2].astype(float) - 1.8).astype(np.float32)
        dataset = load(self.ID, maze_goal="stored", maze_terminate_at_success=False)
        assert_equal(dataset.transitions, expected)
        env = make_environment(dataset.recipe)
        assert env.spec.max_episode_steps == 300
        env.reset(seed=0)
        np.testing.assert_allclose(env.unwrapped.goal, [-0.8, -0.8])  # Which the rewards refer to.
        env.close()

    def test_dense_rewards(self, tmp_path):
        arrays = without(d4rl_arrays(300, 4, 2), "next_observations")
        arrays["observations"][:, :2] = 1
        import_arrays(tmp_path, arrays, "d4rl/maze2d/umaze-dense-v1")
        rewards = load("d4rl/maze2d/umaze-dense-v1").transitions.rewards
        assert np.allclose(rewards, np.exp(-np.hypot(0.2, 0.2)), atol=1e-6)


@pytest.mark.parametrize("name", ["halfcheetah", "walker2d", "pen", "hammer", "door", "relocate"])
def test_environments_fit(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs what it thinks of Gymnasium's HalfCheetah.
    task = TASKS[name]
    arrays = d4rl_arrays(60, task.observation_dim, task.action_dim)
    import_arrays(tmp_path, arrays, f"d4rl/{name}/some-v1")
    dataset = load(f"d4rl/{name}/some-v1")
    env = make_environment(dataset.recipe)
    assert env.spec.max_episode_steps == task.time_limit
    observation, _ = env.reset(seed=0)
    assert observation.shape == (task.observation_dim,)
    env.close()
    assert dataset.score_rule.kind == "normalized"


class TestFailures:
    def run(self, capsys, *words):
        assert main(["import-d4rl", *map(str, words), "--no-progress"]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    @pytest.fixture
    def nothing_is_left(self, folder):
        yield
        assert [path for path in folder.rglob("*") if path.is_file()] == []

    @pytest.mark.usefixtures("nothing_is_left")
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda a: a.pop("actions"), "lacks actions, it has"),
            (lambda a: a.update(rewards=a["rewards"][:-1]), "'rewards'"),
            (lambda a: a.update(rewards=np.zeros((600, 2), np.float32)), "not one number a row"),
            (lambda a: a.update(actions=np.zeros((600, 3), int)), "not floating-point"),
            (lambda a: a.update(actions=np.zeros(600, np.float32)), "not one vector a row"),
            (lambda a: a.update(actions=np.zeros((600, 4), np.float32)), "names another task"),
            (lambda a: a.update(next_observations=np.zeros((600, 9), np.float32)), "[600, 9]"),
            (lambda a: a["observations"].__setitem__((17, 2), np.nan), "in row 17"),
            (lambda a: a.update(timeouts=np.ones(600, bool)), "no transition"),
            (lambda a: a.update({key: a[key][:0] for key in a}), "no rows"),
        ],
    )
    def test_a_wrong_file(self, tmp_path, capsys, change, message):
        arrays = d4rl_arrays()
        change(arrays)
        with h5py.File(tmp_path / "file.hdf5", "w") as file:
            for key, array in arrays.items():
                file[key] = array
        assert message in self.run(capsys, tmp_path / "file.hdf5", "--id", ID)

    @pytest.mark.usefixtures("nothing_is_left")
    def test_no_file_of_the_format(self, tmp_path, capsys):
        assert "there is no file" in self.run(capsys, tmp_path / "none.hdf5", "--id", ID)
        (tmp_path / "text.hdf5").write_text("observations")
        assert "cannot be opened" in self.run(capsys, tmp_path / "text.hdf5", "--id", ID)
        path = write_hdf5(tmp_path / "cut.hdf5", d4rl_arrays())
        path.write_bytes(path.read_bytes()[:-3000])
        assert "damaged" in self.run(capsys, path, "--id", ID)

    @pytest.mark.usefixtures("nothing_is_left")
    @pytest.mark.parametrize(
        ("dataset_id", "message"),
        [("hopper", "is no dataset id"), ("iql/hopper/medium-v2", "the package's own")],
    )
    def test_a_wrong_id(self, tmp_path, capsys, dataset_id, message):
        path = write_hdf5(tmp_path / "file.hdf5", d4rl_arrays())
        assert message in self.run(capsys, path, "--id", dataset_id)

    @pytest.mark.usefixtures("nothing_is_left")
    def test_options_that_do_not_fit(self, tmp_path, capsys):
        arrays = without(d4rl_arrays(), "next_observations", "timeouts")
        path = write_hdf5(tmp_path / "file.hdf5", arrays)
        words = (path, "--id", "mine/robot-v0")
        assert "--time-limit" in self.run(capsys, *words)
        assert "--keep-timeouts" in self.run(capsys, *words, "--keep-timeouts")
        assert "at least 1" in self.run(capsys, *words, "--time-limit", 0)
        path = write_hdf5(tmp_path / "stored.hdf5", without(d4rl_arrays(), "timeouts"))
        both = ("--keep-timeouts", "--time-limit", 40)
        assert "give one of them" in self.run(capsys, path, "--id", ID, *both)
        path = write_hdf5(tmp_path / "marked.hdf5", d4rl_arrays())
        assert "without 'timeouts'" in self.run(capsys, path, "--id", ID, "--time-limit", 40)

    @pytest.mark.usefixtures("nothing_is_left")
    def test_a_full_disk(self, tmp_path, capsys, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.posix_fallocate", full, raising=False)
        path = write_hdf5(tmp_path / "file.hdf5", d4rl_arrays())
        assert main(["import-d4rl", str(path), "--id", ID, "--no-progress"]) == 1
        assert "no space left" in capsys.readouterr().err.splitlines()[-1]

    def test_an_id_that_exists(self, tmp_path, capsys):
        path = write_hdf5(tmp_path / "file.hdf5", d4rl_arrays())
        assert main(["import-d4rl", str(path), "--id", ID]) == 0
        assert f"{ID} is imported" in capsys.readouterr().err
        assert "--force replaces it" in self.run(capsys, path, "--id", ID)
        words = [
            "import-d4rl",
            str(path),
            "--id",
            ID,
            "--force",
            "--keep-timeouts",
            "--no-progress",
        ]
        assert main(words) == 0
        assert load().transitions.size == 600

    @pytest.mark.usefixtures("nothing_is_left")
    @pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal(self, tmp_path, capsys, monkeypatch, signum, status):
        path = write_hdf5(tmp_path / "file.hdf5", d4rl_arrays())
        monkeypatch.setattr(writing, "_BATCH_STEPS", 40)
        write, written = writing.add_episodes, []

        def interrupted(storage, episodes):
            write(storage, episodes)
            written.append(len(episodes))
            os.kill(os.getpid(), signum)

        monkeypatch.setattr(writing, "add_episodes", interrupted)
        assert main(["import-d4rl", str(path), "--id", ID, "--no-progress"]) == status
        assert len(written) == 1
        assert f"{ID} is not imported" in capsys.readouterr().err

    def test_a_folder_of_other_datasets_is_left_alone(self, tmp_path, capsys, folder):
        import_arrays(tmp_path, d4rl_arrays(), "mine/hopper-v2/medium-v0")
        inside = folder / "mine" / "hopper-v2" / "medium-v0" / "data" / "metadata.json"
        path = tmp_path / "file.hdf5"
        capsys.readouterr()
        for words in ((), ("--force",)):
            error = self.run(capsys, path, "--id", "mine/hopper-v2", *words)
            assert "holds other datasets" in error
        error = self.run(capsys, path, "--id", "mine/hopper-v2/medium-v0/again-v0")
        assert "would lie in the dataset" in error
        assert inside.is_file()

    def test_minari_opens_it(self, tmp_path):
        import_arrays(tmp_path, d4rl_arrays())
        assert minari.load_dataset(ID).spec.dataset_id == ID
        assert list(minari.list_local_datasets(compatible_minari_version=True)) == [ID]

    def test_a_time_limit_can_be_given(self, tmp_path, capsys):
        arrays = without(d4rl_arrays(), "next_observations", "timeouts")
        path = write_hdf5(tmp_path / "file.hdf5", arrays)
        assert main(["import-d4rl", str(path), "--id", "mine/robot-v0", "--time-limit", "40"]) == 0
        assert "time limits are counted, 40 steps (--time-limit)" in capsys.readouterr().err
        assert_equal(load("mine/robot-v0").transitions, d4rl_view(arrays, 40).arrays())


def test_the_checks_know_imported_data(tmp_path, capsys):
    import_arrays(tmp_path, ant_maze_arrays(), TestAntMaze.ID)
    main(["check", TestAntMaze.ID, "--no-progress"])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("OK") and "AntMaze_Medium-v5 builds" in line for line in lines)
    assert main(["info", TestAntMaze.ID, "--no-progress"]) == 0
    assert "D4RL's antmaze-medium-play-v2" in capsys.readouterr().out
    metadata = read_metadata(tmp_path / "datasets" / TestAntMaze.ID)
    assert json.loads(metadata["eval_env_spec"])["max_episode_steps"] == 1000
