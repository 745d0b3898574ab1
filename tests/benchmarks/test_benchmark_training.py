"""Benchmarks that train, on an umaze of few steps: runs trained together, the mirrored maze."""

import csv

import gymnasium as gym
import numpy as np
import pytest
from benchmark_runs import a_run
from minari_datasets import ANT_MAZE, box, code, episode_buffer, maze_spec, unit_box, write_dataset

import elsewhere
import mirrored_umaze
import runs as bench
from iql_jax.data.load import load_dataset
from iql_jax.training.config import Config

MAP = [[1, 1, 1, 1, 1], [1, "g", 0, 0, 1], [1, 1, 1, 0, 1], [1, "r", 0, 0, 1], [1, 1, 1, 1, 1]]


@pytest.fixture
def umaze(data_folders):
    """An ant's way through the data's maze: (-4, -4) to (4, -4), (4, 4) and (-4, 4), the goal."""
    return write_umaze()


def write_umaze(turns=1):
    position = np.array([[-4, -4], [4, -4], [4, 0], [4, 4], [-4, 4]] * turns, np.float64)
    rows = len(position)
    observations = {
        "observation": code(1, 0, rows, 27),
        "achieved_goal": position,
        "desired_goal": np.tile([-4.0, 4.0], (rows, 1)),
    }
    space = gym.spaces.Dict(observation=box(27), achieved_goal=box(2), desired_goal=box(2))
    rewards = (position[1:] == [-4, 4]).all(axis=1)
    episode = episode_buffer(0, rows - 1, observations, action_dim=8, rewards=rewards)
    spec = maze_spec(MAP, ANT_MAZE, continuing_task=True, reset_target=False)
    return write_dataset(
        "iql/antmaze-waiting/umaze-v0",
        [episode],
        space,
        unit_box(8),
        env_spec=spec,
        eval_env_spec=spec,
        ref_max_score=1.0,
    )


def tiny_run(folder, **settings):
    tiny = {"hidden_dims": [8], "batch_size": 4, "max_steps": 2, "eval_episodes": 1}
    dataset = "iql/antmaze-waiting/umaze-v0"
    return a_run(folder, dataset=dataset, seed=0, progress=False, **tiny, **settings)


def read_members(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def load(dataset, **choices):
    return load_dataset(Config(dataset=dataset, progress=False, **choices))


def test_half_a_turn_leads_from_the_datas_maze_to_minaris():
    turned = np.rot90(np.array(MAP, dtype=object), 2)
    assert turned.tolist() == mirrored_umaze.MINARI_EVALUATION_MAP


def test_the_mirrored_dataset_has_the_same_data_and_another_maze(umaze):
    mirrored = mirrored_umaze.make_mirrored("umaze")
    here = load("iql/antmaze-waiting/umaze-v0", maze_goal="stored")
    there = load(mirrored, maze_goal="stored", maze_walls="evaluation")
    assert here.record["fingerprint"] == there.record["fingerprint"]
    assert here.recipe.maze.goal == (-4, 4)
    assert there.recipe.maze.goal == (4, -4)
    assert there.recipe.kwargs["maze_map"] == mirrored_umaze.MINARI_EVALUATION_MAP
    assert here.record["choices"]["positions_in_walls"] == 0
    assert there.record["choices"]["positions_in_walls"] == 0.2  # (4, 0) of five.
    elsewhere.check_same_transitions(here, there)
    # Relabelled rewards are those of the evaluation's goal: other transitions.
    there = load(mirrored, maze_walls="evaluation")
    np.testing.assert_array_equal(there.transitions.rewards, [1, 0, 0, 0])
    with pytest.raises(ValueError, match="rewards of iql/antmaze-mirrored/umaze-v0 differ"):
        elsewhere.check_same_transitions(load("iql/antmaze-waiting/umaze-v0"), there)


def test_a_policy_is_evaluated_in_the_mirrored_maze(umaze, tmp_path):
    own = tiny_run(tmp_path / "stored" / "run", maze_goal="stored", maze_walls="data")
    assert bench.train_together([own]) == []
    elsewhere.evaluate_elsewhere(own, mirrored_umaze.make_mirrored("umaze"))
    found = elsewhere.elsewhere(own)
    assert (found["update"], found["dataset"]) == (2, "iql/antmaze-mirrored/umaze-v0")
    assert (found["positions_in_walls"], found["episodes"]) == (0.2, 1)
    relabelled = tiny_run(tmp_path / "relabelled" / "run")
    assert bench.train_together([relabelled]) == []
    with pytest.raises(ValueError, match="rewards of iql/antmaze-mirrored/umaze-v0 differ"):
        elsewhere.evaluate_elsewhere(relabelled, "iql/antmaze-mirrored/umaze-v0")


def test_runs_are_trained_together(umaze, tmp_path, capsys):
    runs = tmp_path / "runs"
    cloning = tiny_run(runs / "bc-seed0", temperature=0.0)
    broken = tiny_run(runs / "broken-seed0", value_lr=1e30, critic_lr=1e30)
    assert bench.train_together([tiny_run(runs / "iql-seed0"), cloning, broken]) == [broken]
    assert "broken-seed0 failed: " in capsys.readouterr().err
    assert cloning.is_finished()
    assert cloning.record()["config"]["temperature"] == 0.0
    members = read_members(runs / "members.csv")
    assert [(row["member"], row["temperature"]) for row in members[:2]] == [
        ("iql-seed0", "10.0"),
        ("bc-seed0", "0.0"),
    ]


def test_the_mirrored_dataset_is_made_again_when_the_data_are(umaze):
    mirrored = mirrored_umaze.make_mirrored("umaze")
    target = umaze.parent.parent / "antmaze-mirrored" / "umaze-v0"
    before = (target / "data" / "metadata.json").stat().st_mtime_ns
    assert mirrored_umaze.make_mirrored("umaze") == mirrored
    assert (target / "data" / "metadata.json").stat().st_mtime_ns == before
    for file in sorted(umaze.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    umaze.rmdir()
    write_umaze(turns=2)
    mirrored_umaze.make_mirrored("umaze")
    assert load(mirrored, maze_walls="evaluation").transitions.size == 9
    assert not list(umaze.parent.parent.parent.glob(".making-*"))
