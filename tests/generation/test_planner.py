"""Ways through mazes."""

import numpy as np
from minari_datasets import UMAZE

from iql_jax.envs.mazes import MazeMap
from iql_jax.generation import pointmaze
from iql_jax.generation.planner import MazePlanner

X = np.inf
SPLIT = [[0, 0, 1, 0], [0, 0, 1, 0]]


def planner_of(cells=UMAZE, scaling=1.0):
    return MazePlanner(MazeMap.from_lists(cells, scaling))


def test_distances():
    np.testing.assert_array_equal(
        planner_of().distances[1, 1],
        [[X, X, X, X, X], [X, 0, 1, 2, X], [X, X, X, 3, X], [X, 6, 5, 4, X], [X, X, X, X, X]],
    )
    np.testing.assert_array_equal(planner_of(SPLIT).distances[0, 0], [[0, 1, X, X], [1, 2, X, X]])


def test_following_the_next_cells_arrives_in_the_distance():
    planner = pointmaze.TASKS["large"].planner()
    cells = planner.maze.free_cells()
    for goal in map(tuple, cells[::7]):
        distances, following = planner.distances[goal], planner.next_cells[goal]
        for cell in map(tuple, cells):
            at, moves = cell, 0
            while at != goal:
                assert np.abs(following[at] - np.array(at)).sum() == 1
                at, moves = tuple(following[at]), moves + 1
            assert moves == distances[cell]


def test_unreachable_cells_lead_to_themselves_and_walls_out():
    following = planner_of(SPLIT).next_cells[0, 0]
    assert following[0, 3].tolist() == [0, 3]
    # The wall's nearest free cell (first of two at distance 1) is (0, 1), which leads left.
    assert following[0, 2].tolist() == [0, 0]


def test_waypoints_are_next_centers_and_at_last_the_goal_itself():
    goal = np.array([-3.5, 4.5])  # In cell (1, 1), whose center is (-4, 4).
    table = planner_of(scaling=4.0).waypoint_table(goal)
    expected = {(3, 1): [0.0, -4.0], (2, 3): [4.0, 4.0], (1, 2): goal, (1, 1): goal}
    for cell, waypoint in expected.items():
        np.testing.assert_allclose(table[cell], waypoint)
