"""What trained and measures the packaged ant controller."""

import itertools
import pathlib
import tempfile

import numpy as np
import pytest

import evaluate_ant
from ant_direction_env import AntDirectionConfig, AntDirectionEnv
from iql_jax.generation.ant_tasks import Ants, load_controller
from iql_jax.generation.reproducibility import code_digest


@pytest.fixture
def standing(monkeypatch):
    """Ants that stay where they are, away from their goals."""
    monkeypatch.setattr(Ants, "at_goal", lambda ants: np.zeros(len(ants.states), bool))
    monkeypatch.setattr(Ants, "step", lambda ants, actions: None)
    monkeypatch.setattr(evaluate_ant, "steer", lambda *_: np.zeros((1, 8)))


@pytest.mark.usefixtures("standing")
def test_a_route_takes_no_more_steps_than_its_task():
    controller = load_controller()
    for task, limit in (("umaze", 700), ("medium-play", 1000)):
        result = evaluate_ant.run_route(controller, task, episodes=1, seed=0)
        assert result.arrivals.tolist() == [limit + 1]
        assert result.arrival_share == 0


@pytest.mark.usefixtures("standing")
def test_falls_are_counted_where_they_begin(monkeypatch):
    controller = load_controller()
    heights = itertools.cycle([1.0, -1.0, -1.0, 1.0])
    monkeypatch.setattr(Ants, "upright", lambda ants: np.array([next(heights), 1.0]))
    result = evaluate_ant.run_route(controller, "umaze", episodes=2, seed=0)
    assert (result.falls, result.fallen_share) == (125.0, 0.25)  # Of the two: 175 in 1,400.


def test_its_mazes_leave_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    env = AntDirectionEnv(AntDirectionConfig(maze_id="AntMaze_UMaze-v5"))
    env.reset(seed=0)
    env.step(np.zeros(8, np.float32))
    assert list(tmp_path.iterdir()) == []


def test_no_data_depend_on_its_training(monkeypatch):
    read = []
    monkeypatch.setattr(pathlib.Path, "read_bytes", lambda path: read.append(path.name) or b"")
    code_digest()
    trained = {"ant_direction_env.py", "distill_ant.py", "evaluate_ant.py", "train_ant.py"}
    assert not trained & set(read)
    assert {"antmaze.py", "ant_tasks.py", "ant_controller.py", "maze.py"} <= set(read)
