"""The semantics of maze data, on episodes short enough to work out by hand."""

import numpy as np
import pytest
from gymnasium_robotics.envs.maze import maps
from iql_jax.data.maze_data import check_maze_entries, maze_transitions
from minari_datasets import ANT_MAZE, ANT_MAZE_V5, POINT_MAZE, maze_spec, spec_json

from iql_jax.data.episodes import FlatEpisodes
from iql_jax.data.maze_task import maze_kind, maze_map, set_up_maze
from iql_jax.envs.specs import parse_spec
from iql_jax.utils.errors import UserError

# One corridor of four cells, 1 m each: centres at x = -1.5, -0.5, 0.5, 1.5, all at y = 0.
CORRIDOR = [[1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1]]
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
    return FlatEpisodes(
        observations={
            "observation": np.stack([x, zeros, 10.0 + row, 100.0 + row], 1).astype(np.float32),
            "achieved_goal": np.stack([x, zeros], 1).astype(np.float32),
            "desired_goal": np.stack([np.concatenate(goals), zeros], 1).astype(np.float32),
        },
        actions=np.tile(np.arange(steps, dtype=np.float32)[:, None], 2),
        rewards=np.arange(steps, dtype=np.float32) if rewards is None else np.float32(rewards),
        terminations=ends,
        truncations=np.zeros(steps, bool),
        lengths=lengths,
        is_dict=True,
    )


def set_up(evaluation, collection=None, positions=((0.0, 0.0),), goal="eval", dim=4, walls="data"):
    positions = np.asarray(positions, np.float32)
    return set_up_maze(evaluation, collection or evaluation, positions, dim, goal, walls)


def transitions(episodes, goal="eval", terminate=True, evaluation=None, drop="nothing"):
    setup = set_up(evaluation or spec(WITH_GOAL), goal=goal)
    return maze_transitions(episodes, setup, goal=goal, terminate_at_success=terminate, drop=drop)


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
    assert found.notes == ()


def test_observations_follow_their_steps(passing):
    found = transitions(passing)
    # Row 6 is the last observation of episode 0, and so nothing but a next observation.
    np.testing.assert_array_equal(found.observations[:, 2], [10, 11, 12, 13, 14, 15, 17, 18, 19])
    np.testing.assert_array_equal(found.next_observations[:, 3] - 100, [1, 2, 3, 4, 5, 6, 8, 9, 10])
    for array in (found.observations, found.next_observations, found.rewards, found.masks):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous


def test_without_termination_the_rewards_stay(passing):
    found = transitions(passing, terminate=False)
    np.testing.assert_array_equal(found.rewards, [0, 0, 1, 1, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(found.masks, np.ones(9))


def test_dropping_the_rest_of_an_episode_after_its_first_success(passing):
    found = transitions(passing, drop="after_success")
    np.testing.assert_array_equal(found.actions[:, 0], [0, 1, 2, 6, 7])
    np.testing.assert_array_equal(found.lengths, [3, 2])
    np.testing.assert_array_equal(found.rewards, [0, 0, 1, 0, 1])
    np.testing.assert_array_equal(found.masks, [1, 1, 0, 1, 0])
    np.testing.assert_array_equal(found.observations[:, 2], [10, 11, 12, 17, 18])
    np.testing.assert_array_equal(found.next_observations[:, 2], [11, 12, 13, 18, 19])
    assert found.at_goal.sum() == 2


def test_dropping_keeps_an_episode_without_success_whole():
    episodes = point_episodes(
        [[-1.5, -0.5], [0.0, 0.5, 0.5], [-1.5, -1.5, -1.5]], [[0] * 2, [0] * 3, [0] * 3]
    )
    found = transitions(episodes, drop="after_success")
    np.testing.assert_array_equal(found.actions[:, 0], [0, 1, 3, 4])
    np.testing.assert_array_equal(found.lengths, [1, 1, 2])


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
    ("drop", "goal", "kept"),
    [
        ("nothing", "eval", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("waiting_elsewhere", "eval", [0, 1, 2, 3, 4, 5, 6]),
        ("waiting", "eval", [0, 1, 4, 5, 6]),
        ("after_success", "eval", [0, 1, 4]),
        ("waiting_elsewhere", "stored", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("waiting", "stored", [0, 1, 4, 5, 6]),
    ],
)
def test_what_is_dropped(drop, goal, kept):
    """One episode waits at the evaluation goal, 0.5; the other passes it, and waits at -1.5."""
    xs = [[-0.5, 0.0, 0.5, 0.5, 0.5], [0.0, 0.5, -0.5, -1.5, -1.5]]
    episodes = point_episodes(xs, [[0.5] * 5, [-1.5] * 5])
    found = transitions(episodes, goal=goal, drop=drop)
    np.testing.assert_array_equal(found.actions[:, 0], kept)
    assert found.lengths.sum() == len(kept)


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


def test_episode_shows_the_goal_and_keeps_the_rewards(passing):
    found = transitions(passing, goal="episode")
    assert found.observation_keys == ("observation", "desired_goal")
    assert found.observations.shape == (9, 6)
    np.testing.assert_array_equal(found.observations[:, 4], [1.5] * 6 + [-1.5] * 3)
    np.testing.assert_array_equal(found.next_observations[:, 4], [1.5] * 6 + [-1.5] * 3)
    np.testing.assert_array_equal(found.rewards, np.arange(9))
    np.testing.assert_array_equal(found.masks, [1, 1, 1, 1, 1, 0, 1, 1, 0])
    assert found.at_goal.sum() == 2
    assert found.observations.flags.c_contiguous
    assert found.notes == ()


def test_a_wrong_goal_in_the_first_observation_is_not_used():
    # As in Minari's PointMaze data: episode 1 still shows episode 0's goal at first.
    episodes = point_episodes([[1.0, 1.5], [1.4, 1.5, 0.5]], [[1.5, 1.5], [1.5, 0.5, 0.5]])
    found = transitions(episodes, goal="episode")
    np.testing.assert_array_equal(found.observations[:, 4], [1.5, 0.5, 0.5])
    np.testing.assert_array_equal(found.next_observations[:, 4], [1.5, 0.5, 0.5])
    # Step 1 ends at 1.5, the wrong goal: no success.
    np.testing.assert_array_equal(found.masks, [0, 1, 0])
    assert "1 of 2 episodes" in found.notes[0]


def test_a_goal_that_changes_within_an_episode():
    # Reached at step 0, the goal moves from 0.5 to -0.5; step 1's reward is for the new one.
    episodes = point_episodes([[0.0, 0.5, 0.5, -0.5]], [[0.5, 0.5, -0.5, -0.5]])
    found = transitions(episodes, goal="episode")
    np.testing.assert_array_equal(found.observations[:, 4], [0.5, -0.5, -0.5])
    np.testing.assert_array_equal(found.next_observations[:, 4], [0.5, -0.5, -0.5])
    np.testing.assert_array_equal(found.masks, [0, 1, 0])


def test_stored_keeps_the_rewards_and_hides_the_goal(passing):
    found = transitions(passing, goal="stored")
    assert found.observations.shape == (9, 4)
    np.testing.assert_array_equal(found.rewards, np.arange(9))
    np.testing.assert_array_equal(found.masks, [1, 1, 1, 1, 1, 0, 1, 1, 0])


def test_data_that_never_reach_the_goal_are_said_to_be_of_no_use():
    found = transitions(point_episodes([[-1.5, -0.5]], [[0.5, 0.5]]))
    assert "nothing to learn" in found.notes[0]
    np.testing.assert_array_equal(found.masks, [1])


def test_dense_rewards_teach_without_arrivals():
    dense = spec(WITH_GOAL, reward_type="dense")
    found = transitions(point_episodes([[-1.5, -0.5]], [[0.5, 0.5]]), evaluation=dense)
    assert not found.notes
    np.testing.assert_allclose(found.rewards, np.exp(-1), rtol=1e-6)


def test_the_ants_position_comes_first():
    rows = np.arange(3)
    episodes = FlatEpisodes(
        observations={
            "achieved_goal": np.float32(np.stack([rows, -rows], 1)),
            "desired_goal": np.float32(np.stack([rows * 0 + 7, rows * 0 + 8], 1)),
            "observation": np.float32(100 * rows[:, None] + np.arange(27)),
        },
        actions=np.zeros((2, 8), np.float32),
        rewards=np.zeros(2, np.float32),
        terminations=np.zeros(2, bool),
        truncations=np.zeros(2, bool),
        lengths=np.array([2]),
        is_dict=True,
    )
    evaluation = spec(WITH_GOAL, ANT_MAZE)
    check_maze_entries(episodes, evaluation)
    setup = set_up(evaluation, dim=27)
    assert setup.task.goal == (2.0, 0.0)  # Cells of 4 m.
    found = maze_transitions(
        episodes, setup, goal="eval", terminate_at_success=True, drop="nothing"
    )
    assert found.observation_keys == ("achieved_goal", "observation")
    np.testing.assert_array_equal(found.observations[1], [1, -1, *range(100, 127)])
    np.testing.assert_array_equal(found.next_observations[1], [2, -2, *range(200, 227)])
    found = maze_transitions(
        episodes, setup, goal="episode", terminate_at_success=True, drop="nothing"
    )
    assert found.observation_keys == ("achieved_goal", "observation", "desired_goal")
    np.testing.assert_array_equal(found.observations[0], [0, 0, *range(27), 7, 8])


def test_entries_that_a_maze_needs(passing):
    del passing.observations["desired_goal"]
    with pytest.raises(UserError, match="lack desired_goal"):
        check_maze_entries(passing, spec(WITH_GOAL))


def test_point_observations_must_begin_with_the_position(passing):
    check_maze_entries(passing, spec(WITH_GOAL))
    passing.observations["observation"][3, 0] += 0.1
    with pytest.raises(UserError, match="must begin with the position"):
        check_maze_entries(passing, spec(WITH_GOAL))


# Which maze, which goal.


def test_kinds_of_maze():
    assert maze_kind(spec(CORRIDOR)) == "point"
    assert maze_kind(spec(CORRIDOR, ANT_MAZE)) == "ant"
    assert maze_kind(spec(CORRIDOR, ANT_MAZE_V5)) == "ant"
    assert maze_kind(parse_spec(spec_json())) is None
    assert maze_kind(spec(CORRIDOR, "stranger:AntMazeEnv")) is None
    assert maze_map(spec(CORRIDOR)).scaling == 1
    assert maze_map(spec(CORRIDOR, ANT_MAZE_V5)).scaling == 4


def test_a_specification_without_map_is_of_the_constructors_default():
    assert maze_map(parse_spec(spec_json(POINT_MAZE))).cells == tuple(map(tuple, maps.U_MAZE))


def test_the_goal_is_fixed_and_the_task_ends_there():
    setup = set_up(spec(WITH_GOAL, continuing_task=True, reset_target=True))
    assert setup.task.goal == (0.5, 0.0)
    assert setup.kwargs == {
        "maze_map": WITH_GOAL,
        "continuing_task": False,
        "reset_target": False,
    }
    assert setup.notes == ()
    for goal in ("episode", "stored"):
        assert set_up(spec(WITH_GOAL), goal=goal).task.goal == (0.5, 0.0)


@pytest.mark.parametrize(("row", "count"), [([1, 0, 0, 0, 0, 1], 0), ([1, "g", 0, "c", 0, 1], 2)])
def test_eval_needs_one_goal(row, count):
    evaluation = spec([CORRIDOR[0], row, CORRIDOR[2]])
    with pytest.raises(UserError, match=f"marks {count}; set config.maze_goal='episode'.*'stored'"):
        set_up(evaluation)
    assert set_up(evaluation, goal="episode").task.goal is None
    assert set_up(evaluation, goal="stored").task.goal is None


@pytest.mark.parametrize(
    ("entry_point", "dim", "expected"),
    [
        (ANT_MAZE, 27, {"use_contact_forces": False}),
        (ANT_MAZE, 111, {"use_contact_forces": True}),
        (ANT_MAZE_V5, 27, {"include_cfrc_ext_in_observation": False}),
        (ANT_MAZE_V5, 105, {"include_cfrc_ext_in_observation": True}),
    ],
)
def test_contact_forces_as_in_the_data(entry_point, dim, expected):
    assert expected.items() <= set_up(spec(WITH_GOAL, entry_point), dim=dim).kwargs.items()


# A U open to the left and its mirror image; x = -1, 0, 1 and y = 1, 0, -1 at the free cells.
RIGHT = [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
LEFT = [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
THROUGH_THE_RIGHT = [(-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]


def marked(maze, **marks):
    """A maze with marks at cells, as g=(row, column)."""
    cells = [list(row) for row in maze]
    for mark, (row, column) in marks.items():
        cells[row][column] = mark
    return cells


def test_mirrored_walls_give_way_to_the_collecting_maze_with_its_own_marks():
    evaluation = spec(marked(LEFT, r=(3, 1), g=(1, 1)))
    collection = spec(marked(RIGHT, r=(3, 1), g=(1, 2)))
    setup = set_up(evaluation, collection, THROUGH_THE_RIGHT)
    assert setup.kwargs["maze_map"] == marked(RIGHT, r=(3, 1), g=(1, 2))
    assert setup.task.goal == (0, 1)
    assert "14.3 %" in setup.notes[0]  # One of seven.
    assert "with its own start and goal" in setup.notes[0]


def test_mirrored_walls_with_an_unmarked_collecting_maze_mirror_the_marks():
    evaluation = spec(marked(LEFT, r=(3, 1), g=(1, 1)))
    setup = set_up(evaluation, spec(RIGHT), THROUGH_THE_RIGHT)
    assert setup.kwargs["maze_map"] == marked(RIGHT, r=(3, 3), g=(1, 3))
    assert setup.task.goal == (1, 1)
    assert "mirrored (left and right)" in setup.notes[0]


def test_the_evaluations_walls_may_be_kept_whatever_the_data_say():
    evaluation = spec(marked(LEFT, r=(1, 3), g=(3, 3)))
    setup = set_up(evaluation, spec(RIGHT), THROUGH_THE_RIGHT, walls="evaluation")
    assert setup.kwargs["maze_map"] == marked(LEFT, r=(1, 3), g=(3, 3))
    assert setup.task.goal == (1, -1)
    assert setup.notes[0].startswith("14.3 % of the data's positions lie in walls")  # One of seven.
    # Even where the data are of another maze altogether.
    setup = set_up(spec(WITH_GOAL), spec(CORRIDOR), [(0.0, 5.0)], walls="evaluation")
    assert setup.notes[0].startswith("100 %")


def test_other_walls_without_marks_leave_the_goal_open():
    corridor = [[1] * 5, [1, "r", 0, "g", 1], [1] * 5, [1] * 5, [1] * 5]
    with pytest.raises(UserError, match="marks 0"):
        set_up(spec(corridor), spec(RIGHT), THROUGH_THE_RIGHT)
    setup = set_up(spec(corridor), spec(RIGHT), THROUGH_THE_RIGHT, goal="episode")
    assert setup.kwargs["maze_map"] == RIGHT
    assert "draws starts and goals" in setup.notes[0]


def test_other_walls_that_the_data_do_not_touch_are_the_evaluations():
    evaluation = spec(marked(RIGHT, g=(1, 1), r=(1, 2)))
    setup = set_up(evaluation, spec(maps.OPEN), [(-1, 1), (0, 1), (1, 1)])
    assert setup.task.goal == (-1, 1)
    assert setup.notes == ()


def test_data_of_another_maze_are_refused():
    with pytest.raises(UserError, match=r"100\.0 %.*not that of these data"):
        set_up(spec(WITH_GOAL), spec(CORRIDOR), [(0.0, 5.0)])


def test_a_few_positions_in_walls_are_noted():
    positions = [(0.5, 0.0)] * 99 + [(0.5, 0.7)]
    assert set_up(spec(WITH_GOAL), spec(CORRIDOR), positions).notes == (
        "1 % of the data's positions lie in walls",
    )
