"""Which maze, and which goal, a maze dataset is evaluated on."""

import numpy as np
import pytest
from minari_datasets import ANT_MAZE, ANT_MAZE_V5, POINT_MAZE, maze_spec, spec_json

from iql_jax.data.maze_task import maze_kind, maze_map, set_up_maze
from iql_jax.envs.specs import parse_spec
from iql_jax.utils.errors import UserError

# One corridor of four cells, 1 m each: centers at x = -1.5, -0.5, 0.5, 1.5, all at y = 0.
CORRIDOR = [[1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1]]
WITH_GOAL = [[1, 1, 1, 1, 1, 1], [1, "r", 0, "g", 0, 1], [1, 1, 1, 1, 1, 1]]  # At x = 0.5.


def spec(maze, entry_point=POINT_MAZE, **kwargs):
    return parse_spec(maze_spec(maze, entry_point, **kwargs))


def set_up(evaluation, collection=None, positions=((0.0, 0.0),), goal="eval", dim=4, walls="data"):
    positions = np.asarray(positions, np.float32)
    return set_up_maze(evaluation, collection or evaluation, positions, dim, goal, walls)


def test_kinds_of_maze():
    assert maze_kind(spec(CORRIDOR)) == "point"
    assert maze_kind(spec(CORRIDOR, ANT_MAZE)) == "ant"
    assert maze_kind(spec(CORRIDOR, ANT_MAZE_V5)) == "ant"
    assert maze_kind(parse_spec(spec_json())) is None
    assert maze_kind(spec(CORRIDOR, "stranger:AntMazeEnv")) is None
    assert maze_map(spec(CORRIDOR)).scaling == 1
    assert maze_map(spec(CORRIDOR, ANT_MAZE_V5)).scaling == 4


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
    assert "goal mirrored" in setup.notes[0]


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


def test_data_of_another_maze_are_refused():
    with pytest.raises(UserError, match=r"100\.0 %.*not that of these data"):
        set_up(spec(WITH_GOAL), spec(CORRIDOR), [(0.0, 5.0)])


def test_a_few_positions_in_walls_change_nothing():
    setup = set_up(spec(WITH_GOAL), spec(CORRIDOR), [(0.5, 0.0)] * 99 + [(0.5, 0.7)])
    assert setup.in_walls == 0.01
    assert setup.notes == ()
