"""AntMaze: the episodes that are collected."""

import itertools

import numpy as np
import pytest

from iql_jax.generation import antmaze
from iql_jax.generation.antmaze import TASKS, collect
from iql_jax.generation.ants import Ants
from iql_jax.generation.maze_tasks import MazeTask
from iql_jax.generation.procedure import Shard


def collect_steps(ants, steps, task=TASKS["umaze"]):
    return collect(Shard(task, 0, 0, ants, steps, antmaze.STAY), lambda: None)


@pytest.fixture(scope="module")
def episodes():
    return collect_steps(ants=2, steps=600)


def test_an_episode_leads_from_the_start_to_the_goal(episodes):
    for episode in episodes:
        seen = episode.observations
        assert (seen["desired_goal"] == [-4.0, 4.0]).all()
        assert np.abs(seen["achieved_goal"][0] - [-4.0, -4.0]).max() <= 2.0  # The start's cell.


def test_an_ant_stays_at_its_goal_for_a_while(episodes):
    ends = np.cumsum([len(episode) for episode in episodes])
    assert {600, 1200} <= set(ends)
    whole = [e for e, end in zip(episodes, ends, strict=True) if end not in (600, 1200)]
    assert len(whole) >= 2
    for episode in whole:
        assert len(episode) == int(np.argmax(episode.rewards)) + 1 + antmaze.STAY


def test_an_episode_starts_in_a_pose_of_its_own(monkeypatch):
    spreads = []
    for held in (0, antmaze.HELD_STEPS):
        monkeypatch.setattr(antmaze, "HELD_STEPS", held)
        poses = [
            episode.observations["observation"][0, 5:13]
            for episode in collect_steps(ants=16, steps=1)
        ]
        assert len(poses) == 16
        spreads.append(np.std(poses, axis=0))
    # The environment draws the joints' angles within 0.1 rad of the same pose.
    assert spreads[0].max() < 0.1
    assert spreads[1].min() > 0.15


def test_an_ant_that_lies_starts_again_elsewhere(monkeypatch):
    (calm,) = collect_steps(ants=1, steps=30)
    monkeypatch.setattr(MazeTask, "time_limit", 20)
    calls = itertools.count()

    def upright(ants):
        # For as long as it takes to give the episode up.
        return np.array([-1.0 if 5 <= next(calls) < 5 + antmaze.LYING_STEPS else 1.0])

    monkeypatch.setattr(Ants, "upright", upright)
    monkeypatch.setattr(antmaze, "steer", lambda *_: np.zeros((1, 8), np.float32))
    again, rest = collect_steps(ants=1, steps=30)
    assert (len(again), len(rest)) == (20, 10)  # The time limit, and what is left of the steps.
    assert calm.seed not in (again.seed, rest.seed)
    assert next(calls) == 5 + antmaze.LYING_STEPS + 30  # Fifteen steps went, thirty stayed.
