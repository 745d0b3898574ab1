"""Ways through mazes, and the controller that follows them."""

import numpy as np
import pytest
from minari_datasets import UMAZE

from iql_jax.envs.mazes import MazeMap
from iql_jax.generation import point_tasks, pointmaze
from iql_jax.generation.plan import ScoreRun
from iql_jax.generation.planner import UNREACHABLE, MazePlanner

SPLIT = [[0, 0, 1, 0], [0, 0, 1, 0]]


def _planner(cells=UMAZE, scaling=1.0):
    return MazePlanner(MazeMap.from_lists(cells, scaling))


class TestPlanner:
    def test_distances_in_the_u_maze(self):
        x = UNREACHABLE
        np.testing.assert_array_equal(
            _planner().distances((1, 1)),
            [[x, x, x, x, x], [x, 0, 1, 2, x], [x, x, x, 3, x], [x, 6, 5, 4, x], [x, x, x, x, x]],
        )

    def test_distances_leave_out_what_cannot_be_reached(self):
        x = UNREACHABLE
        expected = [[0, 1, x, x], [1, 2, x, x]]
        np.testing.assert_array_equal(_planner(SPLIT).distances((0, 0)), expected)

    @pytest.mark.parametrize("cell", [(0, 0), (9, 1), (-1, 1)])
    def test_a_goal_in_a_wall_is_refused(self, cell):
        with pytest.raises(ValueError, match="not a free cell"):
            _planner().distances(cell)

    def test_following_the_next_cells_arrives_in_the_distance(self):
        planner = MazePlanner(point_tasks.build_planner("large").maze)
        cells = planner.maze.free_cells()
        for goal in map(tuple, cells[::7]):
            distances, following = planner.distances(goal), planner.next_cells(goal)
            for cell in map(tuple, cells):
                at, moves = cell, 0
                while at != goal:
                    step = following[at] - np.array(at)
                    assert np.abs(step).sum() == 1
                    at, moves = tuple(following[at]), moves + 1
                assert moves == distances[cell]

    def test_unreachable_cells_lead_to_themselves_and_walls_out(self):
        following = _planner(SPLIT).next_cells((0, 0))
        assert following[0, 3].tolist() == [0, 3]
        # The wall's nearest free cell (first of two at distance 1) is (0, 1), which leads left.
        assert following[0, 2].tolist() == [0, 0]

    def test_waypoints_are_next_centres_and_at_last_the_goal_itself(self):
        planner = _planner(scaling=4.0)
        goal = np.array([-3.5, 4.5])  # In cell (1, 1), whose centre is (-4, 4).
        xy = np.array([[-4.0, -4.0], [4.9, 0.3], [0.1, 3.0], [-4.9, 3.0]])
        expected = [[0.0, -4.0], [4.0, 4.0], goal, goal]
        np.testing.assert_allclose(planner.waypoints(xy, np.tile(goal, (4, 1))), expected)

    def test_waypoints_for_mixed_goals_agree_with_the_tables(self):
        planner = point_tasks.build_planner("medium")
        generator = np.random.default_rng(0)
        centres = planner.maze.cell_to_xy(planner.maze.free_cells())
        xy, goals = (
            generator.choice(centres, (5, 9)) + generator.uniform(-0.4, 0.4, (5, 9, 2))
            for _ in range(2)
        )
        waypoints = planner.waypoints(xy, goals)
        for index in np.ndindex(5, 9):
            row, col = planner.maze.xy_to_cell(xy[index])
            expected = planner.waypoint_table(goals[index])[row, col]
            np.testing.assert_array_equal(waypoints[index], expected)

    def test_positions_outside_the_map_find_back(self):
        planner = _planner()
        waypoint = planner.waypoints(np.array([-99.0, 1.0]), np.array([0.0, 1.0]))
        np.testing.assert_allclose(waypoint, [0.0, 1.0])

    def test_shapes_must_agree(self):
        with pytest.raises(ValueError, match="differ in shape"):
            _planner().waypoints(np.zeros((3, 2)), np.zeros(2))


class TestController:
    def test_the_action_is_proportional_to_the_offset_and_damped(self):
        controller = point_tasks.PointController(_planner())
        controller.head_for(np.array([0.25, 1.0]))  # In cell (1, 2).
        # From cell (1, 1) to the goal: 10 * 0.09 - 0.5 and 10 * -0.02 - (-0.1).
        np.testing.assert_allclose(
            controller.action([-0.5 - 1e-9, 1.02, 7.0, -0.1]), (0.5, -0.1), atol=1e-6
        )
        assert controller.action([-1.0, 1.0, 0.0, 0.0])[0] == 1.0

    def test_without_noise_it_reaches_every_goal_of_the_large_maze(self):
        run = ScoreRun("large", seed=3, first_episode=0, episodes=10, planned=True)
        returns = pointmaze.score_run(run).values
        assert returns.shape == (10,)
        assert returns.min() > 300  # Of 800 steps; the longest way takes under 500.
