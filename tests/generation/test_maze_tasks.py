"""The mazes in which data are collected and policies evaluated."""

import numpy as np
import pytest

from iql_jax.envs.mazes import MazeMap
from iql_jax.generation import antmaze, pointmaze
from iql_jax.generation.catalog import procedure

LIMITS = {"AntMaze_UMaze-v4": 700, "PointMaze_Medium-v3": 600, "PointMaze_Large-v3": 800}


def map_of(spec):
    return MazeMap.from_lists(spec.kwargs["maze_map"], 1.0)


@pytest.mark.parametrize("task", [*antmaze.TASKS.values(), *pointmaze.TASKS.values()])
def test_the_evaluation_has_the_datas_walls_and_one_goal(task):
    collecting, evaluation = map_of(task.collecting_spec()), map_of(task.evaluation_spec())
    np.testing.assert_array_equal(evaluation.walls, collecting.walls)
    assert evaluation.marked("g").tolist() == [list(task.goal_cell)]
    assert evaluation.marked("r").tolist() == ([list(task.start_cell)] if task.start_cell else [])
    spec, limit = task.evaluation_spec(), 300 if task.draws_goals else 1_000
    assert spec.max_episode_steps == task.time_limit == LIMITS.get(task.env_id, limit)
    assert (spec.kwargs["continuing_task"], spec.kwargs["reset_target"]) == (True, False)


def test_goals_of_the_collection_are_minaris_and_starts_are_anywhere():
    marked = {
        name: [map_of(task.collecting_spec()).marked(kind).tolist() for kind in "rg"]
        for name, task in antmaze.TASKS.items()
    }
    assert marked.pop("umaze") == [[[3, 1]], [[1, 1]]]
    assert marked.pop("medium-diverse") == [[], [[1, 1], [2, 6], [5, 1], [6, 5]]]
    starts, goals = marked.pop("large-diverse")
    assert (starts, len(goals)) == ([], 8)
    assert all(found == [[], []] for found in marked.values())  # Goals, too, are anywhere.
    for task in pointmaze.TASKS.values():
        spec = task.collecting_spec()
        assert [map_of(spec).marked(kind).size for kind in "rg"] == [0, 0]
        assert (spec.max_episode_steps, spec.kwargs["reset_target"]) == (1_000_000, True)


@pytest.mark.parametrize("steps", [1, 499, 1_999, 4_000, 123_456, 1_000_000])
def test_shards_cover_the_steps(steps):
    balls = pointmaze.procedure("umaze", steps, 0).shards
    assert sum(shard.steps for shard in balls) == steps
    assert [shard.first for shard in balls] == list(range(len(balls)))
    ants = procedure("iql/antmaze-waiting/umaze-v0", steps, 0).shards
    assert sum(shard.count * shard.steps for shard in ants) == steps
    assert {shard.stay for shard in ants} == {1_000}
    numbers = [shard.first + i for shard in ants for i in range(shard.count)]
    assert numbers == list(range(len(numbers)))
