"""How episodes of AntMaze fail: poses made by hand, and a run that stands."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from benchmark_runs import rows, trained_run

import failures
from iql_jax.data.load import load_dataset
from iql_jax.envs.episodes import EvaluationResult
from iql_jax.generation.generate import generate
from iql_jax.training.config import from_mapping
from iql_jax.utils.errors import UserError


def way(steps=300, yaw=0.0, roll=0.0, speed=0.0):
    """An ant that goes along x, turned about the world's up and then about its own x axis."""
    observations = np.zeros((steps + 1, 29), np.float32)
    observations[:, 0] = speed * np.arange(steps + 1)
    about_up = np.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])
    w, z = about_up[0], about_up[3]
    c, s = np.cos(roll / 2), np.sin(roll / 2)
    observations[:, 3:7] = [w * c, w * s, z * s, z * c]
    return observations


def test_headings_and_ups_are_those_that_were_given():
    for yaw in (-3.0, -1.0, 0.0, 0.5, 2.0):
        np.testing.assert_allclose(failures.heading(way(yaw=yaw, roll=0.3)), yaw, atol=1e-6)
        np.testing.assert_allclose(failures.up(way(yaw=yaw, roll=0.3)), np.cos(0.3), atol=1e-6)
    np.testing.assert_allclose(failures.up(way(roll=np.pi)), -1.0, atol=1e-6)


def test_kinds_of_failure():
    assert failures.kind_of_failure(way(roll=np.pi)) == "on the back"
    assert failures.kind_of_failure(way(yaw=1.0)) == "on the spot"
    # 199 steps between 200 observations: 1.99 and 2.19 m.
    assert failures.kind_of_failure(way(speed=0.010)) == "on the spot"
    assert failures.kind_of_failure(way(speed=0.011)) == "under way"
    # What was before the last steps does not count.
    late = np.concatenate([way(speed=1.0), way(steps=199)])
    assert failures.kind_of_failure(late) == "on the spot"


def test_turned_steps_are_those_of_ants_that_stand():
    half = np.concatenate([way(steps=9), way(steps=29, yaw=-1.0)])
    assert failures.turns(half) == (40, 30, 1)
    assert failures.turns(way(steps=9, yaw=0.7)) == (10, 0, 0)
    assert failures.turns(way(steps=9, yaw=1.0, roll=np.pi)) == (0, 0, 0)


def test_the_counts_of_a_run(data_folders):
    generate("iql/antmaze/umaze-v0", steps=700, progress=False, score_episodes=1)
    data = load_dataset(from_mapping({"dataset": "iql/antmaze/umaze-v0", "progress": False}))
    recipe = failures.antmaze(data)
    ways = [way(steps=9, yaw=1.0), way(roll=np.pi), way(steps=99), way(speed=1.0, steps=299)]
    result = EvaluationResult(
        returns=np.array([1.0, 0.0, 0.0, 0.0]),
        lengths=np.array([9, 300, 99, 299]),
        successes=np.array([True, False, False, False]),
        trajectories=ways,
    )
    # Turned are 10 of 10 + 100 + 300 upright ones.
    assert failures.row(result, recipe) == ["4", "3", "1", "1", "1", "1", "2%"]
    # Normalised observations are taken back to metres and quaternions.
    mean, std = np.full(29, 0.5, np.float32), np.full(29, 2.0, np.float32)
    scaled = dataclasses.replace(recipe, observation_mean=mean, observation_std=std)
    normalised = dataclasses.replace(result, trajectories=[(x - mean) / std for x in ways])
    assert failures.row(normalised, scaled) == ["4", "3", "1", "1", "1", "1", "2%"]


def test_a_run_that_stands(data_folders, tmp_path, monkeypatch, capsys):
    trained_run(tmp_path / "run", "iql/antmaze/umaze-v0", steps=700, updates=1)
    monkeypatch.setattr("sys.argv", ["x", f"--runs={tmp_path / 'run'}", "--episodes=2"])
    failures.main()
    ((name, task, episodes, failed, back, spot, way_, *_),) = rows(capsys.readouterr().out)
    assert (Path(name).name, task, episodes, failed) == ("run", "iql/antmaze/umaze-v0", "2", "2")
    assert int(back) + int(spot) + int(way_) == 2


def test_other_runs_are_refused(data_folders):
    generate("iql/pointmaze/umaze-v0", steps=600, progress=False, score_episodes=1)
    data = load_dataset(from_mapping({"dataset": "iql/pointmaze/umaze-v0", "progress": False}))
    with pytest.raises(UserError, match="iql/pointmaze/umaze-v0 is none of AntMaze's"):
        failures.antmaze(data)
