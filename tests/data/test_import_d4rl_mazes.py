"""D4RL's mazes in Gymnasium-Robotics' frame: walls, goals, the ant and the ball."""

import json

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from import_files import (
    assert_equal,
    d4rl_arrays,
    d4rl_view,
    import_arrays,
    load,
    without,
)
from iql_jax.data.imports.d4rl_tasks import TASKS, find_task
from iql_jax.data.imports.mazes import rewarded_point

from iql_jax.data.episodes import read_episodes
from iql_jax.data.metadata import read_metadata
from iql_jax.datasets import main
from iql_jax.envs.make import make_environment
from iql_jax.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("data_folders")


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
        np.testing.assert_allclose(dataset.environment.maze.goal, [10.7, 10.8], atol=0.1)
        assert 10 < dataset.transitions.rewards.sum() == (dataset.transitions.masks == 0).sum()
        # Fine-tuning goes on with what the data have: a bootstrap that ends at the goal.
        assert dataset.terminates
        assert not load(self.ID, maze_terminate_at_success=False).terminates

    def test_episodes_go_on_behind_the_goal(self, tmp_path):
        """A terminal is a step that ends at the goal, and no end of an episode."""
        arrays = ant_maze_arrays()
        folder = import_arrays(tmp_path, arrays, self.ID)
        episodes = read_episodes(folder, progress=False)
        timeouts = np.flatnonzero(arrays["timeouts"])
        assert episodes.lengths.tolist() == np.diff([-1, *timeouts]).clip(max=49).tolist()
        kept = d4rl_view(arrays).rows
        assert np.array_equal(episodes.terminations, arrays["terminals"][kept] != 0)
        last = np.cumsum(episodes.lengths) - 1
        assert episodes.terminations.sum() > episodes.terminations[last].sum()
        assert (episodes.terminations ^ episodes.truncations)[last].all()
        # Nobody waits at the goal that rewards refer to: the paper's config keeps everything too.
        for drop in ("waiting", "waiting_elsewhere"):
            dataset = load(self.ID, maze_drop=drop)
            assert dataset.transitions.size == len(kept)
            assert any("does not tell where agents wait" in n for n in dataset.record["notes"])
        # Else the best tenth would be the steps at the goal, each an episode of return 1.
        best = load(self.ID, maze_drop="after_success", top_episodes=0.5)
        assert best.record["episodes"] == 5
        assert best.transitions.size > 5

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
        recipe = load(self.ID).environment
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
        env = make_environment(dataset.environment)
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


def test_the_checks_know_imported_data(tmp_path, capsys):
    import_arrays(tmp_path, ant_maze_arrays(), TestAntMaze.ID)
    main(["check", TestAntMaze.ID, "--no-progress"])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("OK") and "AntMaze_Medium-v5 builds" in line for line in lines)
    assert main(["info", TestAntMaze.ID, "--no-progress"]) == 0
    assert "D4RL's antmaze-medium-play-v2" in capsys.readouterr().out
    metadata = read_metadata(tmp_path / "datasets" / TestAntMaze.ID)
    assert json.loads(metadata["eval_env_spec"])["max_episode_steps"] == 1000
