"""Weights and failures by hand; lost transitions are found; rates without their warm-up."""

import jax.numpy as jnp
import numpy as np
import pytest

import diagnose
import kill_resume
import timings
from common.runs import Run


def test_the_weights_of_known_advantages():
    # Weights at temperature 1: 1/2, 1, 3, 3; at 2: 1/4, 1, 9, 9; the lower bound makes 3 and 9 two.
    advantages = jnp.log(jnp.array([0.5, 1.0, 3.0, 3.0]))
    table = diagnose.weights(advantages, [1.0, 2.0], [2.0, 100.0])
    # 5.5^2 / (4 x 9.25) and 7.5^2 / (4 x 19.25); 0.5 / 5.5 and 0.5 / 7.5.
    assert "| 1 | 81.8%, 9% below | 73.1%, 7% below |" in table
    assert "| 2 | 76.0%, 5% below | 56.8%, 1% below |" in table


def path(steps=300, yaw=0.0, roll=0.0, speed=0.0):
    """An ant that moves along x, turned about the world's up and then about its own x axis."""
    observations = np.zeros((steps + 1, 29), np.float32)
    observations[:, 0] = speed * np.arange(steps + 1)
    w, z = np.cos(yaw / 2), np.sin(yaw / 2)
    c, s = np.cos(roll / 2), np.sin(roll / 2)
    observations[:, 3:7] = [w * c, w * s, z * s, z * c]
    return observations


@pytest.mark.parametrize("yaw", [-3.0, 0.0, 2.0])
def test_up_and_heading_are_those_that_were_given(yaw):
    up, heading = diagnose.up_and_heading(path(yaw=yaw, roll=0.3))
    np.testing.assert_allclose(up, np.cos(0.3), atol=1e-6)
    np.testing.assert_allclose(heading, yaw, atol=1e-6)


def test_kinds_of_failure():
    assert diagnose.kind_of_failure(path(roll=np.pi)) == "on the back"
    # 199 steps between 200 observations: 1.99 and 2.19 m.
    assert diagnose.kind_of_failure(path(speed=0.010)) == "on the spot"
    assert diagnose.kind_of_failure(path(speed=0.011)) == "under way"
    late = np.concatenate([path(speed=1.0), path(steps=199)])
    assert diagnose.kind_of_failure(late) == "on the spot"


def test_failures_are_counted_and_turned_steps_are_of_upright_ants():
    paths = [path(steps=9, yaw=1.0), path(roll=np.pi), path(steps=99), path(speed=1.0, steps=299)]
    row = diagnose.count_failures(paths, [True, False, False, False])
    assert row == ["4", "3", "1", "1", "1", "1", "2%"]  # 10 of 10 + 100 + 300.


STEPS = 400  # Updates, then environment steps: episodes of 150, of 100 dropped, and of 150.


@pytest.fixture
def killed(tmp_path):
    """What a fine-tuning run that was killed once leaves."""
    position = np.arange(STEPS + 1, dtype=np.float32)[:, None]
    following = position[1:].copy()
    following[[149, 249]] = -1.0
    rewards, masks = np.zeros(STEPS, np.float32), np.ones(STEPS, np.float32)
    rewards[-1], masks[-1] = 1.0, 0.0
    arrays = {"observations": position[:-1], "next_observations": following}
    (tmp_path / "transitions").mkdir()
    file = tmp_path / "transitions/000000000-000000400.npz"
    np.savez(file, **arrays, rewards=rewards, masks=masks)
    write_episodes(tmp_path, [(550, 1, 0.0, 150, 0), (800, 3, 1.0, 150, 1)])
    return Run(tmp_path, "pointmaze_finetune", {})


def write_episodes(folder, rows):
    lines = ["step,episode,return,length,success", *(",".join(map(str, row)) for row in rows)]
    (folder / "episodes.csv").write_text("".join(f"{line}\n" for line in lines))


def test_a_run_that_lost_nothing_has_no_problems(killed):
    assert list(kill_resume.log_problems(killed, STEPS, kills=1)) == []


@pytest.mark.parametrize(
    ("episodes", "said"),
    [
        ([(550, 1, 0.0, 150, 0), (800, 3, 2.0, 150, 1)], "not the sum of its rewards"),
        ([(550, 1, 0.0, 150, 1), (800, 3, 1.0, 150, 1)], "episode 1 has other masks"),
        ([(550, 1, 0.0, 150, 0), (800, 3, 1.0, 250, 1)], "episode 3 is not in one piece"),
        ([(800, 3, 1.0, 150, 1)], "2 episodes were dropped by 1 kills"),
        ([(500, 1, 0.0, 100, 0), (800, 3, 1.0, 150, 1)], "leads to the next episode's first"),
    ],
)
def test_episodes_that_are_not_their_transitions_are_found(killed, episodes, said):
    write_episodes(killed.folder, episodes)
    assert any(said in problem for problem in kill_resume.log_problems(killed, STEPS, kills=1))


def test_rates_leave_out_the_first_interval_of_each_phase():
    def row(updates, steps):
        return {"updates_per_second": updates, "env_steps_per_second": steps}

    rows = [row(1, None), row(300, None), row(600, None), row(50, 2), row(50, 100), row(50, 100)]
    assert timings.rates(rows) == (pytest.approx(400), pytest.approx(100))
