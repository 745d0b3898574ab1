"""D4RL's mazes in Gymnasium-Robotics' frame: walls, goals, the ant and the ball."""

import pickle

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from data_files import assert_equal, d4rl_arrays, d4rl_view, without, write_hdf5
from minari_datasets import load

from iql_jax.data.ant_model import ant_model
from iql_jax.data.d4rl_tasks import TASKS, find_task
from iql_jax.data.rewarded_goal import rewarded_goal
from iql_jax.envs.make import make_environment
from iql_jax.utils.errors import UserError

ANT = "antmaze-medium-play-v2.hdf5"
EVAL = {"maze_goal": "eval"}


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


@pytest.mark.parametrize("name", ["antmaze-umaze", "antmaze-medium", "antmaze-large"])
def test_d4rls_ant_walls_are_where_the_evaluation_has_them(name):
    make = TASKS[name].maze
    drawing, start, goal = make.args[0], make.keywords["start"], make.keywords["goal"]
    frame = make()
    size = 4 * np.array([len(drawing[0]), len(drawing)])
    points = np.random.default_rng(0).uniform(-6, size - 6, (400, 2))
    walls = [d4rl_is_wall(drawing, start, point) for point in points]
    assert 0.2 < np.mean(walls) < 0.8
    assert (~frame.map.is_free(points + frame.shift) == walls).all()
    for mark, cell in (("r", start), ("g", goal)):
        origin = 4 * (np.array(cell) - start)[::-1]
        assert frame.map.cell_to_xy(frame.map.marked(mark)).tolist() == [
            (origin + frame.shift).tolist()
        ]


@pytest.mark.parametrize("name", ["open-v0", "umaze-v1", "medium-v1", "large-dense-v1"])
def test_d4rls_point_walls_are_where_the_evaluation_has_them(name):
    _, task = find_task(f"maze2d-{name}")
    drawing, goal = task.maze.args[0], task.maze.keywords["goal"]
    frame = task.maze()
    size = np.array([len(drawing), len(drawing[0])])
    points = np.random.default_rng(0).uniform(-0.7, size, (400, 2))
    walls = np.array([maze2d_is_wall(drawing, point) for point in points])
    walls |= ~(points < size - 0.7).all(axis=1)
    assert (~frame.map.is_free(points + frame.shift) == walls).all()
    assert np.allclose(np.array(goal) + frame.shift, frame.rewarded)
    assert np.allclose(frame.map.cell_to_xy(frame.map.marked("g")), [frame.goal])


def test_the_rewarded_goal_is_found_from_all_positions():
    rng = np.random.default_rng(1)
    goal = np.array([3.7, -2.1])
    points = goal + rng.uniform(-2, 2, (20_000, 2))
    near = np.linalg.norm(points - goal, axis=1) <= 0.5
    found, error = rewarded_goal(points, near, 0.5)
    assert np.linalg.norm(goal - found) <= error + 0.01 < 0.05
    # Where nobody walks past it, what is not rewarded tells where the rest of the circle is.
    one_side = points[:, 0] < goal[0] - 0.2
    found, error = rewarded_goal(points[one_side], near[one_side], 0.5)
    assert np.linalg.norm(goal - found) <= error + 0.01 < 0.1
    assert rewarded_goal(points, np.zeros(20_000, bool), 0.5) is None
    assert rewarded_goal(np.array([[0.0, 0.0], [2.0, 0.0]]), np.ones(2, bool), 0.5) is None


def ant_arrays(goal=(20.7, 20.8), rows=500):
    """Positions near the goal of medium; rewards and terminals as D4RL's relabelling makes them."""
    arrays = without(d4rl_arrays(rows, 29, 8), "next_observations")
    rng = np.random.default_rng(2)
    arrays["observations"][:, :2] = np.array(goal) + rng.uniform(-0.7, 0.7, (rows, 2))
    near = np.linalg.norm(arrays["observations"][1:, :2] - goal, axis=1) <= 0.5
    arrays["rewards"] = np.concatenate([near, [False]]).astype(np.float32)
    return arrays | {"terminals": arrays["rewards"].copy()}


@pytest.fixture
def ant(tmp_path):
    return write_hdf5(tmp_path / ANT, ant_arrays())


class TestAntMaze:
    def test_by_default_rewards_and_terminals_are_d4rls(self, ant):
        dataset = load(ant)
        expected = d4rl_view(ant_arrays()).arrays()
        for key in ("observations", "next_observations"):
            expected[key][:, :2] = (expected[key][:, :2].astype(float) - 10).astype(np.float32)
        assert_equal(dataset.transitions, expected)
        np.testing.assert_allclose(dataset.environment.maze.goal, [10.7, 10.8], atol=0.05)
        ended = (dataset.transitions["masks"] == 0).sum()
        assert 10 < dataset.transitions["rewards"].sum() == ended
        # Fine-tuning goes on with what the data have: a bootstrap that ends at the goal.
        assert dataset.terminates
        assert not load(ant, maze_terminate_at_success=False, **EVAL).terminates

    def test_episodes_go_on_behind_the_goal(self, ant):
        """A terminal is a step that ends at the goal, and no end of an episode."""
        arrays = ant_arrays()
        dataset = load(ant, next_actions=True)
        last = np.flatnonzero(dataset.transitions["next_action_masks"] == 0)
        timeouts = np.flatnonzero(arrays["timeouts"])
        assert np.diff(last, prepend=-1).tolist() == np.diff([-1, *timeouts]).clip(max=49).tolist()
        # Nobody waits at the goal that rewards refer to: the paper's config keeps everything too.
        kept = load(ant, maze_drop="waiting")
        assert kept.size == dataset.size
        assert any("does not tell where agents wait" in n for n in kept.record["notes"])
        # Else the best tenth would be the steps at the goal, each an episode of return 1.
        best = load(ant, maze_drop="after_success", top_episodes=0.5, **EVAL)
        assert best.record["episodes"] == 5 < best.size

    def test_rewards_for_the_middle_of_the_goals_cell_can_be_had(self, ant):
        dataset = load(ant, **EVAL)
        assert any("refer to a goal at (10.7" in note for note in dataset.record["notes"])
        position = dataset.transitions["next_observations"][:, :2]
        expected = np.linalg.norm(position - np.float32([10, 10]), axis=1) <= 0.5
        assert expected.any()
        np.testing.assert_array_equal(dataset.transitions["rewards"], expected)
        assert dataset.score_rule.kind == "success"

    def test_jumps_are_resets_that_nothing_marks(self, tmp_path):
        arrays = ant_arrays() | {key: np.zeros(500, np.float32) for key in ("rewards", "terminals")}
        arrays["observations"][137:150, :2] = [0.5, 0.5]  # 29 m away, until the time limit.
        path = write_hdf5(tmp_path / ANT, arrays)
        assert any("do not tell the goal" in note for note in load(path).record["notes"])
        dataset = load(path)
        rows = [i for i in d4rl_view(arrays).rows if i != 136]
        np.testing.assert_array_equal(dataset.transitions["actions"], arrays["actions"][rows])
        assert any("1 more are left out" in note for note in dataset.record["notes"])

    @pytest.mark.parametrize("choices", [{}, EVAL, {"maze_goal": "episode"}])
    def test_terminals_before_resets_end_episodes_and_keep_their_rewards(self, tmp_path, choices):
        """As in antmaze-umaze-diverse-v2: the observation at the goal is lost."""
        arrived, resets = [60, 260, 370], [61, 261, 371, 420]
        arrays = ant_arrays() | {"rewards": np.isin(np.arange(500), arrived) * 1.0}
        arrays |= {"terminals": arrays["rewards"], "timeouts": np.arange(500) % 100 == 99}
        arrays["observations"][:, :2] = [18.0, 20.0]
        for reset in resets:  # The third lies nearby, the last follows no terminal.
            x = 18.5 if reset == 371 else 0.5
            arrays["observations"][reset : (reset // 100 + 1) * 100, :2] = [x, x + 1.5]
        dataset = load(write_hdf5(tmp_path / ANT, arrays), next_actions=True, **choices)
        rows = np.setdiff1d(np.flatnonzero(~arrays["timeouts"]), [419])
        ends, found = np.isin(rows, arrived), dataset.transitions
        np.testing.assert_array_equal(found["actions"], arrays["actions"][rows])
        np.testing.assert_array_equal(found["rewards"], ends)
        np.testing.assert_array_equal(found["masks"], ~ends)
        assert (found["next_action_masks"][ends] == 0).all()
        said = " | ".join(dataset.record["notes"])
        assert "3 terminals are followed by resets" in said
        assert "1 more are left out" in said
        assert "lost with the last observations" in said

    def test_the_evaluation_has_d4rls_ant_start_and_goal_in_another_process_too(self, ant):
        description = pickle.loads(pickle.dumps(load(ant, **EVAL).environment))
        env = make_environment(description)
        observation, _ = env.reset(seed=3)
        noise = observation[:15] - [-10, -10, 0.75, 1, *np.zeros(11)]
        noise[7:] -= env.unwrapped.ant_env.init_qpos[7:]
        assert 0.05 < np.abs(noise).max() <= 0.1 + 1e-6
        assert 0 < np.abs(observation[15:]).max() < 0.5
        assert env.unwrapped.goal.tolist() == [10, 10]
        model = env.unwrapped.ant_env.model
        assert env.unwrapped.ant_env.dt == pytest.approx(0.1)
        assert np.abs(model.actuator_gear[:, 0]).tolist() == [30] * 8
        assert np.allclose(model.geom_solimp[:, :3], [0.8, 0.8, 0.01])
        env.close()

    def test_its_model_differs_from_gymnasiums_in_three_things_only(self):
        own = mujoco.MjModel.from_xml_string(ant_model())
        env = gym.make("Ant-v5").unwrapped
        fields = ("body_mass", "body_inertia", "dof_armature", "dof_damping", "jnt_range")
        fields += ("geom_friction", "geom_solref", "geom_size", "geom_margin", "actuator_ctrlrange")
        for field in fields:
            assert np.array_equal(getattr(own, field), getattr(env.model, field)), field
        assert own.opt.timestep == 2 * env.model.opt.timestep
        env.close()

    def test_another_mazes_file_is_refused(self, ant):
        with pytest.raises(UserError, match="another maze's file"):
            load(ant, task="antmaze-umaze-v2")


class TestMaze2D:
    def test_transitions_and_environment(self, tmp_path):
        arrays = without(d4rl_arrays(300, 4, 2), "next_observations")
        arrays["observations"][:, :2] = np.random.default_rng(3).uniform(0.8, 1.1, (300, 2))
        arrays["rewards"] = np.float32(np.arange(300) % 2)
        dataset = load(write_hdf5(tmp_path / "maze2d-umaze-sparse-v1.hdf5", arrays))
        expected = d4rl_view(arrays).arrays()
        for key in ("observations", "next_observations"):
            expected[key][:, :2] = (expected[key][:, :2].astype(float) - 1.8).astype(np.float32)
        assert_equal(dataset.transitions, expected)
        env = make_environment(dataset.environment)
        assert env.spec.max_episode_steps == 300
        env.reset(seed=0)
        np.testing.assert_allclose(env.unwrapped.goal, [-0.8, -0.8])  # Which the rewards refer to.
        env.close()
