"""Fine-tuning runs that are stopped, killed, or meet a failure: what is saved, how they go on."""

import os
import shutil
import signal
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
from finetune_runs import (
    BOUNDARY,
    END,
    ROOT,
    SETTINGS,
    assert_same_rows,
    assert_same_run,
    buffer_of,
    config_of,
    rebuilt,
    saved,
    steps,
    stop,
    stop_at,
)

from configs import pointmaze_finetune
from iql_jax.algorithm import replay_buffer
from iql_jax.envs import rollout as interaction
from iql_jax.envs.make import make_environment
from iql_jax.outputs.folder import read_record
from iql_jax.outputs.logs import read_table
from iql_jax.outputs.transitions import TransitionLog
from iql_jax.training.config import FinetuneConfig, from_mapping
from iql_jax.training.finetune import train_finetune
from iql_jax.training.online import Online
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted

pytestmark = pytest.mark.usefixtures("finetune_data", "no_pictures")


def assert_nothing_is_lost(folder, phase, summary):
    """Counters, tables, log, buffer and state of a finished run agree with one another."""
    state, progress = saved(folder)
    counters = phase.interaction.counters
    assert progress["step"] == END
    assert progress["updates"] == int(state.step) == summary["updates"] == 180
    assert counters.env_steps == summary["env_steps"] == 120
    assert steps(folder, "metrics") == [20, 40, 60, 80, 100, 120, 140, 160, 180]
    assert steps(folder, "evaluations") == [40, BOUNDARY, 100, 140, END]
    rows = read_table(folder / "episodes.csv")
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    numbers = [row["episode"] for row in rows]
    assert numbers == sorted(set(numbers))
    assert len(rows) == counters.episodes_ended == summary["episodes"]
    assert rows[-1]["regret"] == pytest.approx(1 - np.mean([row["success"] for row in rows]))
    # Between ends that follow each other there is an episode, and what was dropped before it.
    between = np.diff([BOUNDARY, *(row["step"] for row in rows)])
    assert (between >= [row["length"] for row in rows]).all()
    assert_same_rows(buffer_of(phase), rebuilt(phase, folder, 660))


def test_stops_before_the_first_environment_step_saved_leave_no_trace(
    finished, tmp_path, monkeypatch
):
    for table, step, signum in (
        ("metrics", 20, signal.SIGKILL),
        ("evaluations", 40, signal.SIGTERM),
        ("metrics", BOUNDARY, signal.SIGINT),
        ("evaluations", BOUNDARY, signal.SIGKILL),
        ("evaluations", BOUNDARY, signal.SIGTERM),
        ("metrics", 80, signal.SIGKILL),  # In the second phase, before its first checkpoint.
    ):
        stop(monkeypatch, tmp_path, table, step, signum)
    train_finetune(config_of(), tmp_path)
    assert_same_run(tmp_path, finished[0])


def test_stops_between_environment_steps_lose_the_open_episode_alone(
    tmp_path, monkeypatch, phases, capsys
):
    folder = tmp_path / "run"
    for table, step, signum, saved_at in (
        ("metrics", 80, signal.SIGTERM, 80),
        ("metrics", 140, signal.SIGKILL, 120),
        ("evaluations", 140, signal.SIGKILL, 120),
        ("evaluations", 140, signal.SIGINT, 140),
        ("metrics", 160, signal.SIGTERM, 160),
    ):
        stop(monkeypatch, folder, table, step, signum)
        state, progress = saved(folder)
        assert progress["step"] == int(state.step) == saved_at
        assert progress["extra"]["counters"]["env_steps"] == saved_at - BOUNDARY
    shutil.copytree(folder, tmp_path / "copy")
    summary = train_finetune(config_of(), folder)
    said = capsys.readouterr().err
    assert f"resuming {folder} at step 160" in said
    assert "dropping 1 unfinished training episode(s)" in said
    assert_nothing_is_lost(folder, phases[-1], summary)
    # How it goes on is a function of what is in the folder.
    train_finetune(config_of(), tmp_path / "copy")
    assert_same_run(tmp_path / "copy", folder)


def test_a_log_that_lost_a_file_is_said(tmp_path, monkeypatch):
    stop(monkeypatch, tmp_path, "metrics", 120, signal.SIGTERM)
    next((tmp_path / "transitions").iterdir()).unlink()
    with pytest.raises(UserError, match="of the 60 transitions"):
        train_finetune(config_of(), tmp_path)


class Faulty(gym.Wrapper):
    """Wraps a real environment; goes wrong at one of its steps."""

    def __init__(self, env, fault, at):
        super().__init__(env)
        self._fault, self._left = fault, at

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._left -= 1
        if self._left == 0:
            if self._fault == "raises":
                raise RuntimeError("the hinge\nbroke")
            observation = observation * np.nan
        return observation, reward, terminated, truncated, info


def test_an_environment_that_fails_stops_the_run_with_its_state_saved(
    tmp_path, monkeypatch, phases
):
    reached = BOUNDARY
    for fault, at, said in (
        ("raises", 1, "episode 0 at step 1: RuntimeError: the hinge broke"),
        ("nan", 33, "at step 8 is not finite"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(
                interaction,
                "make_environment",
                lambda recipe, fault=fault, at=at: Faulty(make_environment(recipe), fault, at),
            )
            with pytest.raises(UserError) as caught:
                train_finetune(config_of(), tmp_path)
        message = str(caught.value)
        reached += at - 1
        assert said in message
        assert "\n" not in message
        assert f"step {reached} is saved in {tmp_path}" in message
        state, progress = saved(tmp_path)
        assert progress["step"] == int(state.step) == reached
        assert not (tmp_path / "summary.json").exists()
    summary = train_finetune(config_of(), tmp_path)
    assert_nothing_is_lost(tmp_path, phases[-1], summary)


def test_where_memory_runs_out_for_the_buffer_a_smaller_one_goes_on(tmp_path, monkeypatch, phases):
    def full(*args, **kwargs):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    with monkeypatch.context() as patch:
        patch.setattr(replay_buffer, "init", full)
        with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
            train_finetune(config_of(), tmp_path)
    assert saved(tmp_path)[1]["step"] == BOUNDARY
    summary = train_finetune(config_of(replay_buffer_size=620), tmp_path)
    assert (summary["updates"], summary["env_steps"]) == (180, 120)
    assert_same_rows(buffer_of(phases[-1]), rebuilt(phases[-1], tmp_path, 620))
    assert read_record(tmp_path)["config"]["replay_buffer_size"] == 620
    train_finetune(config_of(replay_buffer_size=5_000), tmp_path)  # Nothing is left to do with it.
    assert read_record(tmp_path)["config"]["replay_buffer_size"] == 620


def test_a_signal_to_all_processes_while_the_phase_begins_is_a_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(interaction, "available_cores", lambda: 4)
    fill = Online._fill_buffer

    def filling(self):
        buffer = fill(self)
        for process in self.interaction._vector.processes:
            os.kill(process.pid, signal.SIGTERM)
            process.join()
        os.kill(os.getpid(), signal.SIGTERM)
        return buffer

    monkeypatch.setattr(Online, "_fill_buffer", filling)
    with pytest.raises(Interrupted) as caught:
        train_finetune(config_of(num_envs=2), tmp_path)
    assert (caught.value.signum, caught.value.resumable) == (signal.SIGTERM, True)


def test_a_diverging_run_stops_and_says_where(tmp_path):
    with pytest.raises(UserError, match="not finite between steps") as caught:
        train_finetune(config_of(critic_lr=1e30, value_lr=1e30, num_pretraining_steps=0), tmp_path)
    assert str(tmp_path / "diagnosis") in str(caught.value)
    assert not (tmp_path / "summary.json").exists()


def test_the_command_survives_a_kill(tmp_path, monkeypatch):
    """The command as a person types it, killed in earnest."""
    folder = tmp_path / "run"
    changes = {**SETTINGS, "num_pretraining_steps": 0, "max_steps": 20_000}
    command = [
        sys.executable,
        "train_finetune.py",
        "--config=configs/pointmaze_finetune.py",
        f"--workdir={folder}",
        *(f"--config.{key}={value}" for key, value in changes.items()),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    episodes = folder / "episodes.csv"
    while not (episodes.exists() and episodes.read_text().count("\n") > 3):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.kill()
    assert process.communicate()[1].count("Traceback") == 0
    going_on = saved(folder)[1]["step"]
    assert 0 < going_on < 20_000

    config = from_mapping({**pointmaze_finetune.get_config().to_dict(), **changes}, FinetuneConfig)
    stop_at(monkeypatch, "metrics", going_on + 20, signal.SIGTERM)
    with pytest.raises(Interrupted, match=f"SIGTERM at step {going_on + 20:,}"):
        train_finetune(config, folder)
    state, progress = saved(folder)
    assert progress["step"] == int(state.step) == going_on + 20
    log = TransitionLog(folder / "transitions")
    log.restore(progress["extra"]["counters"]["env_steps"])
    assert sum(len(piece["rewards"]) for piece in log.read()) == going_on + 20
    for table in ("metrics", "evaluations"):
        assert steps(folder, table) == sorted(set(steps(folder, table)))
