"""Weights and failures by hand; runs that differ are found; rates without their warm-up."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import diagnose
import kill_resume
import timings
from common.runs import Run
from iql_jax.algorithm import Transitions


def test_the_weights_of_known_advantages():
    # Weights at temperature 1: 1/2, 1, 3, 3; at 2: 1/4, 1, 9, 9; the lower bound makes 3 and 9 two.
    advantages = jnp.log(jnp.array([0.5, 1.0, 3.0, 3.0]))
    table = diagnose.weights(advantages, [1.0, 2.0], [2.0, 100.0])
    # 5.5^2 / (4 x 9.25) and 7.5^2 / (4 x 19.25); 0.5 / 5.5 and 0.5 / 7.5.
    assert "| 1 | 81.8%, 9% below | 73.1%, 7% below |" in table
    assert "| 2 | 76.0%, 5% below | 56.8%, 1% below |" in table


def test_the_numbers_of_known_values_on_other_data():
    hp = SimpleNamespace(discount=0.5, temperature=1.0, max_weight=100.0)
    density = SimpleNamespace(log_prob=lambda actions: jnp.array([-1.0, -4.0]))
    actor = SimpleNamespace(params=None, apply_fn=lambda params, observations: density)
    state = SimpleNamespace(
        hyperparameters=hp,
        actor=actor,
        v=lambda observations: observations,
        target_q=lambda observations, actions: observations + jnp.log(jnp.array([1.0, 2.0])),
    )
    batch = Transitions(jnp.array([1.0, 3.0]), None, jnp.zeros(2), jnp.ones(2), jnp.array([2.0, 6]))
    # Targets 1 and 3: errors 0 and log 2. Weights 1 and 2: (-1 - 8) / 3.
    assert diagnose.held_out_row(state, batch) == ["0.49", "2.00", "-3.00"]


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


@pytest.mark.parametrize("changed", ["rewards", "episodes.csv", None])
def test_runs_that_differ_in_a_table_or_a_transition_are_told_apart(tmp_path, monkeypatch, changed):
    monkeypatch.setattr(kill_resume, "final_arrays", lambda run: {"actor": np.zeros(2)})
    runs = [Run(tmp_path / name, "pointmaze_finetune", {}) for name in ("whole", "killed")]
    for run in runs:
        is_other = run is runs[1]
        (run.folder / "transitions").mkdir(parents=True)
        rewards = np.arange(3.0) + (changed == "rewards" and is_other)
        for part in (slice(0, 2), slice(2, 3)) if is_other else (slice(0, 3),):  # Cut elsewhere.
            np.savez(run.folder / f"transitions/{part.start}.npz", rewards=rewards[part])
        row = f"3,{int(changed == 'episodes.csv' and is_other)},{int(is_other)}"
        (run.folder / "episodes.csv").write_text(f"step,return,wall_seconds\n{row}\n")
    assert list(kill_resume.compare(*runs)) == ([f"{changed} differs"] if changed else [])


def test_rates_leave_out_the_first_interval_of_each_phase():
    def row(updates, steps):
        return {"updates_per_second": updates, "env_steps_per_second": steps}

    rows = [row(1, None), row(300, None), row(600, None), row(50, 2), row(50, 100), row(50, 100)]
    assert timings.rates(rows) == (pytest.approx(400), pytest.approx(100))
