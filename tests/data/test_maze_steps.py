"""The semantics of maze data, on episodes short enough to work out by hand."""

import numpy as np
import pytest
from minari_datasets import ANT_MAZE, POINT_MAZE, maze_spec

from iql_jax.data.config import DataConfig
from iql_jax.data.episodes import Episodes
from iql_jax.data.maze_steps import check_entries, maze_transitions
from iql_jax.data.maze_task import set_up_maze
from iql_jax.envs.specs import parse_spec
from iql_jax.utils.errors import UserError

# One corridor of four cells, 1 m each: centers at x = -1.5, -0.5, 0.5, 1.5, all at y = 0.
WITH_GOAL = [[1, 1, 1, 1, 1, 1], [1, "r", 0, "g", 0, 1], [1, 1, 1, 1, 1, 1]]  # At x = 0.5.


def spec(maze, entry_point=POINT_MAZE, **kwargs):
    return parse_spec(maze_spec(maze, entry_point, **kwargs))


def point_episodes(xs, goals, rewards=None, terminations=()):
    """Episodes along the corridor, from the x of each observation and of each stored goal."""
    lengths = np.array([len(x) - 1 for x in xs])
    x = np.concatenate(xs)
    steps = int(lengths.sum())
    ends = np.zeros(steps, bool)
    ends[list(terminations)] = True
    zeros = np.zeros_like(x)
    row = np.arange(len(x))
    starts = np.delete(row, np.cumsum(lengths + 1) - 1)
    return Episodes(
        observations={
            "observation": np.stack([x, zeros, 10.0 + row, 100.0 + row], 1).astype(np.float32),
            "achieved_goal": np.stack([x, zeros], 1).astype(np.float32),
            "desired_goal": np.stack([np.concatenate(goals), zeros], 1).astype(np.float32),
        },
        rows=starts,
        next_rows=starts + 1,
        actions=np.tile(np.arange(steps, dtype=np.float32)[:, None], 2),
        rewards=np.arange(steps, dtype=np.float32) if rewards is None else np.float32(rewards),
        terminations=ends,
        lengths=lengths,
        is_dict=True,
    )


def set_up(evaluation, goal="eval", dim=4):
    return set_up_maze(evaluation, evaluation, np.zeros((1, 2), np.float32), dim, goal, "data")


def transitions(episodes, goal="eval", terminate=True, evaluation=None, drop="nothing"):
    setup = set_up(evaluation or spec(WITH_GOAL), goal)
    config = DataConfig(maze_goal=goal, maze_terminate_at_success=terminate, maze_drop=drop)
    return maze_transitions(episodes, setup, config)


# Two episodes that pass the evaluation goal at x = 0.5, whose own goals are elsewhere: the first
# at x = 1.5, the second at x = -1.5. The goal's radius is 0.45.
XS = [[-1.5, -0.5, 0.04, 0.06, 0.94, 0.96, 1.5], [0.5, 0.0, 0.5, -1.5]]
OWN_GOALS = [[1.5] * 7, [-1.5] * 4]


@pytest.fixture
def passing():
    return point_episodes(XS, OWN_GOALS)


def test_eval_relabels_every_step_that_ends_at_the_evaluation_goal(passing):
    found = transitions(passing)
    # x' of the steps: -0.5, 0.04, 0.06, 0.94, 0.96, 1.5 and then 0.0, 0.5, -1.5. The start of the
    # second episode lies in the goal; only where a step ends counts.
    np.testing.assert_array_equal(found.rewards, [0, 0, 1, 1, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(found.masks, [1, 1, 0, 0, 1, 1, 1, 0, 1])
    assert found.at_goal.sum() == 3
    assert found.observation_keys == ("observation",)
    assert found.notes == ("3 steps, of 2 of 2 episodes, end at the goal",)


def test_observations_follow_their_steps(passing):
    found = transitions(passing)
    # Row 6 is the last observation of episode 0, and so nothing but a next observation.
    np.testing.assert_array_equal(found.observations[:, 2], [10, 11, 12, 13, 14, 15, 17, 18, 19])
    np.testing.assert_array_equal(found.next_observations[:, 3] - 100, [1, 2, 3, 4, 5, 6, 8, 9, 10])


def test_dropping_leaves_out_where_it_waits_at_its_own_goal():
    # The evaluation goal at 0.5 is never reached. The first episode waits at -1.5 until it is
    # pushed away; the second gets a new goal wherever it arrives, and comes back to an old one.
    waits = [-0.5, -1.0, -1.2, -1.5, -1.5, -0.5]
    moves = [-0.5, -1.0, -1.5, -0.5, -1.5]
    # The goal that a step's reward refers to is stored with the observation after it.
    moving = [-1.5, -1.5, -1.5, -0.5, -1.5]
    episodes = point_episodes([waits, moves], [[-1.5] * 6, moving])
    found = transitions(episodes, drop="waiting")
    np.testing.assert_array_equal(found.actions[:, 0], [0, 1, 5, 6, 7, 8])
    np.testing.assert_array_equal(found.lengths, [2, 4])
    np.testing.assert_array_equal(found.rewards, np.zeros(6))
    np.testing.assert_array_equal(found.masks, np.ones(6))
    assert transitions(episodes).lengths.tolist() == [5, 4]


@pytest.mark.parametrize(
    ("drop", "goal", "kept", "lengths"),
    [
        ("waiting", "eval", [0, 1, 4, 5, 6], [2, 3]),
        ("after_success", "eval", [0, 1, 4], [2, 1]),
        ("waiting", "stored", [0, 1, 4, 5, 6], [2, 3]),
    ],
)
def test_what_is_dropped(drop, goal, kept, lengths):
    """One episode waits at the evaluation goal, 0.5; the other passes it, and waits at -1.5."""
    xs = [[-0.5, 0.0, 0.5, 0.5, 0.5], [0.0, 0.5, -0.5, -1.5, -1.5]]
    episodes = point_episodes(xs, [[0.5] * 5, [-1.5] * 5])
    found = transitions(episodes, goal=goal, drop=drop)
    np.testing.assert_array_equal(found.actions[:, 0], kept)
    np.testing.assert_array_equal(found.lengths, lengths)
    np.testing.assert_array_equal(found.observations[:, 2], [10 + k + (k > 3) for k in kept])


def test_stored_terminations_are_not_those_of_the_evaluation():
    episodes = point_episodes([[-1.5, -0.5, 0.5]], [[-0.5] * 3], terminations=[0])
    found = transitions(episodes)
    np.testing.assert_array_equal(found.masks, [1, 0])
    assert "1 terminations at other goals" in found.notes[0]
    found = transitions(episodes, goal="stored", terminate=False)
    np.testing.assert_array_equal(found.masks, [0, 1])


def test_dense_rewards_are_recomputed_as_the_environment_computes_them(passing):
    found = transitions(passing, evaluation=spec(WITH_GOAL, reward_type="dense"))
    ends = np.array([-0.5, 0.04, 0.06, 0.94, 0.96, 1.5, 0.0, 0.5, -1.5])
    np.testing.assert_allclose(found.rewards, np.exp(-np.abs(ends - 0.5)), rtol=1e-6)
    np.testing.assert_array_equal(found.masks, [1, 1, 0, 0, 1, 1, 1, 0, 1])


def test_a_wrong_goal_in_the_first_observation_is_not_used():
    # As in Minari's PointMaze data: episode 1 still shows episode 0's goal at first.
    episodes = point_episodes([[1.0, 1.5], [1.4, 1.5, 0.5]], [[1.5, 1.5], [1.5, 0.5, 0.5]])
    found = transitions(episodes, goal="episode")
    np.testing.assert_array_equal(found.observations[:, 4], [1.5, 0.5, 0.5])
    np.testing.assert_array_equal(found.next_observations[:, 4], [1.5, 0.5, 0.5])
    # Step 1 ends at 1.5, the wrong goal: no success.
    np.testing.assert_array_equal(found.masks, [0, 1, 0])


def test_data_that_never_reach_the_goal_are_said_to_be_of_no_use():
    found = transitions(point_episodes([[-1.5, -0.5]], [[0.5, 0.5]]))
    assert "nothing to learn" in found.notes[0]


def test_the_ants_position_comes_first():
    rows = np.arange(3)
    episodes = Episodes(
        observations={
            "achieved_goal": np.float32(np.stack([rows, -rows], 1)),
            "desired_goal": np.float32(np.stack([rows * 0 + 7, rows * 0 + 8], 1)),
            "observation": np.float32(100 * rows[:, None] + np.arange(27)),
        },
        rows=rows[:2],
        next_rows=rows[1:],
        actions=np.zeros((2, 8), np.float32),
        rewards=np.zeros(2, np.float32),
        terminations=np.zeros(2, bool),
        lengths=np.array([2]),
        is_dict=True,
    )
    evaluation = spec(WITH_GOAL, ANT_MAZE)
    check_entries(episodes, evaluation)
    setup = set_up(evaluation, dim=27)
    assert setup.task.goal == (2.0, 0.0)  # Cells of 4 m.
    found = maze_transitions(episodes, setup, DataConfig(maze_goal="eval"))
    assert found.observation_keys == ("achieved_goal", "observation")
    np.testing.assert_array_equal(found.observations[1], [1, -1, *range(100, 127)])
    np.testing.assert_array_equal(found.next_observations[1], [2, -2, *range(200, 227)])
    found = maze_transitions(episodes, setup, DataConfig(maze_goal="episode"))
    assert found.observation_keys == ("achieved_goal", "observation", "desired_goal")
    np.testing.assert_array_equal(found.observations[0], [0, 0, *range(27), 7, 8])


def test_entries_that_a_maze_needs(passing):
    check_entries(passing, spec(WITH_GOAL))
    passing.observations["observation"][3, 0] += 0.1
    with pytest.raises(UserError, match="must begin with the position"):
        check_entries(passing, spec(WITH_GOAL))
    del passing.observations["desired_goal"]
    with pytest.raises(UserError, match="lack desired_goal"):
        check_entries(passing, spec(WITH_GOAL))
