"""Whole fine-tuning runs, small, on a real environment: what they write, and how they resume."""

import json
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from small_runs import (
    BOUNDARY,
    END,
    FINETUNE,
    ROOT,
    TIME_LIMIT,
    assert_same_run,
    assert_same_state,
    finetune_config,
    offline_config,
    saved,
    steps,
    stop,
    stop_at,
)
from tables import untimed_rows

from configs import pointmaze_finetune
from iql_jax.envs import rollout
from iql_jax.outputs.logs import read_table
from iql_jax.training import report
from iql_jax.training.config import FinetuneConfig, from_mapping
from iql_jax.training.finetune import train_finetune
from iql_jax.training.offline import train_offline
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted

pytestmark = pytest.mark.usefixtures("pointmaze", "no_pictures")


@pytest.fixture
def no_pictures(monkeypatch):
    """Draw no pictures, but for those of the run that is ``finished``."""
    monkeypatch.setattr(report, "draw", lambda *args: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pointmaze):
    folder = tmp_path_factory.mktemp("finished")
    return folder, train_finetune(finetune_config(), folder)


@pytest.fixture(scope="module")
def offline(tmp_path_factory, pointmaze):
    """A finished offline run of the same settings."""
    folder = tmp_path_factory.mktemp("offline")
    train_offline(offline_config(opt_decay_schedule="none"), folder)
    return folder


def test_the_folder_holds_what_the_readme_lists(finished):
    folder, summary = finished
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "checkpoints", "config.json", "episodes.csv", "evaluations.csv",
        "learning_curve.png", "metrics.csv", "summary.json", "tb", "transitions", "value_map.png",
    }  # fmt: skip
    files = ["000000000-000000060.npz", "000000060-000000120.npz"]
    assert sorted(path.name for path in (folder / "transitions").iterdir()) == files
    assert steps(folder, "metrics") == [20, 40, 60, 80, 100, 120, 140, 160, 180]
    assert steps(folder, "evaluations") == [40, BOUNDARY, 100, 140, END]
    evaluations = read_table(folder / "evaluations.csv")
    assert summary == json.loads((folder / "summary.json").read_text())
    assert summary["score"] == evaluations[-1]["score"]
    assert summary["offline_score"] == evaluations[1]["score"]
    assert summary["updates"] == int(saved(folder)[0].step) == 180
    assert summary["env_steps"] == 120
    speeds = [row["env_steps_per_second"] for row in read_table(folder / "metrics.csv")]
    assert [speed is None for speed in speeds] == [True] * 3 + [False] * 6


def test_episodes_are_logged_as_they_end(finished):
    folder, summary = finished
    rows = read_table(folder / "episodes.csv")
    assert list(rows[0]) == ["step", "episode", "return", "length", "success", "regret"]
    ends = BOUNDARY + np.cumsum([row["length"] for row in rows])
    assert [row["step"] for row in rows] == ends.tolist()
    assert [row["episode"] for row in rows] == list(range(len(rows)))
    assert len(rows) == summary["episodes"] >= 4
    assert all(row["length"] == TIME_LIMIT or row["success"] == 1 for row in rows)
    successes = [row["success"] for row in rows]
    regrets = [1 - np.mean(successes[: n + 1]) for n in range(len(rows))]
    assert [row["regret"] for row in rows] == pytest.approx(regrets)
    assert summary["regret"] == rows[-1]["regret"]


def test_half_of_each_batch_from_the_dataset_and_four_environments(tmp_path, monkeypatch):
    changes = {"offline_ratio": 0.5, "num_envs": 4, "start_steps": 30, "updates_per_step": 2}
    changes["opt_decay_schedule"] = "cosine"
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    summary = train_finetune(finetune_config(**changes), whole)
    rows = read_table(whole / "metrics.csv")
    assert [row["step"] for row in rows] == [20, 40, 60, 100, 120, 140, 160, 180]
    assert [row["offline_share"] for row in rows[3:]] == [0.5] * 5
    # After steps 32, 36, ..., 120, each time 4 x 2 updates.
    ended = saved(whole)[0]
    assert summary["updates"] == int(ended.step) == 60 + 23 * 8
    assert float(ended.hyperparameters.actor_decay_steps) == summary["updates"]
    assert steps(whole, "episodes") == sorted(steps(whole, "episodes"))
    # Stopped in the middle of its episodes, and after the first of those that end together.
    stop(monkeypatch, stopped, "metrics", 100, signal.SIGTERM, **changes)
    stop(monkeypatch, stopped, "episodes", 160, signal.SIGKILL, **changes)
    train_finetune(finetune_config(**changes), stopped)
    assert_same_run(stopped, whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replay_buffer_size": 599}, "replay_buffer_size is 599"),
        ({"init_dataset_size": 601}, "init_dataset_size is 601"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused_before_any_training(
    tmp_path, changes, message
):
    with pytest.raises(UserError, match=message):
        train_finetune(finetune_config(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# On top of a finished offline run.


def test_the_offline_phase_is_an_offline_run_to_the_bit(offline, tmp_path, monkeypatch):
    stop_at(monkeypatch, "metrics", BOUNDARY, signal.SIGTERM)
    with pytest.raises(Interrupted):
        train_finetune(finetune_config(), tmp_path)
    assert_same_state(saved(tmp_path)[0], saved(offline)[0])
    ours, theirs = (untimed_rows(run / "metrics.csv") for run in (tmp_path, offline))
    assert [list(row.values()) for row in ours] == [list(row.values()) for row in theirs]


def test_a_run_continues_from_a_finished_offline_run(offline, tmp_path, monkeypatch, capsys):
    folder, copy = tmp_path / "run", tmp_path / "offline"
    shutil.copytree(offline, copy)
    changes = {"offline_run": str(copy), "num_pretraining_steps": 7, "dataset_fallback": "fail"}
    changes["opt_decay_schedule"] = "cosine"
    stop(monkeypatch, folder, "metrics", 80, signal.SIGTERM, **changes)
    assert f"continuing from {copy} at step 60" in capsys.readouterr().err
    shutil.rmtree(copy)  # It is not needed any more.
    summary = train_finetune(finetune_config(**changes), folder)
    assert "compiled the update in" not in capsys.readouterr().err
    assert steps(folder, "metrics") == [80, 100, 120, 140, 160, 180]
    assert steps(folder, "evaluations") == [BOUNDARY, 100, 140, END]
    # Evaluated first, by the same seeds: the very evaluation with which the offline run ended.
    first = untimed_rows(folder / "evaluations.csv")[0]
    last = untimed_rows(offline / "evaluations.csv")[-1]
    assert first["score"] == last["score"] == str(summary["offline_score"])
    # Updates are this run's; a schedule starts with it.
    ended = saved(folder)[0]
    assert summary["updates"] == int(ended.step) == 120
    assert float(ended.hyperparameters.actor_decay_steps) == 120


def test_an_offline_run_is_taken_under_this_runs_hyperparameters(offline, tmp_path, monkeypatch):
    keys = []
    for seed in (7, 8):
        folder = tmp_path / str(seed)
        changes = {"actor_lr": 1e-3, "dropout_rate": 0.25, "seed": seed}
        stop(monkeypatch, folder, "evaluations", BOUNDARY, signal.SIGTERM,
             offline_run=str(offline), **changes)  # fmt: skip
        started, theirs = saved(folder)[0], saved(offline)[0]
        assert_same_state(started.actor.params, theirs.actor.params)
        assert_same_state(started.target_critic_params, theirs.target_critic_params)
        assert float(started.hyperparameters.actor_lr) == np.float32(1e-3)
        assert np.isinf(float(started.hyperparameters.actor_decay_steps))
        keys.append(jax.random.key_data(started.key).tolist())
    assert keys[0] != keys[1]  # Runs of several seeds draw differently.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_dims": (16,)}, r"hidden_dims \[8\] -> \[16\]"),
        ({"dataset": "iql/pointmaze/umase-v0"}, r"other settings \(dataset "),
    ],
)
def test_an_offline_run_of_other_settings_is_refused(offline, tmp_path, changes, message):
    config = finetune_config(offline_run=str(offline), **changes)
    with pytest.raises(UserError, match=message):
        train_finetune(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def change_record(folder, change):
    record = json.loads((folder / "config.json").read_text())
    change(record)
    (folder / "config.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "summary.json").unlink(), "is not finished"),
        # As if the last checkpoint were damaged, and this the one before.
        (lambda folder: change_record(folder, lambda r: r["config"].update(max_steps=80)),
         "ended at update 80, but its newest readable checkpoint is of 60"),
        (lambda folder: change_record(folder, lambda r: r["dataset"].update(fingerprint="0" * 64)),
         "a run on other data"),
        (lambda folder: shutil.rmtree(folder / "checkpoints"), "holds no checkpoint"),
    ],
)  # fmt: skip
def test_an_offline_run_that_is_not_all_there_is_refused(offline, tmp_path, damage, message):
    copy = tmp_path / "copy"
    shutil.copytree(offline, copy)
    damage(copy)
    with pytest.raises(UserError, match=message):
        train_finetune(finetune_config(offline_run=str(copy)), tmp_path / "run")


# Stops, kills and failures.


def test_stops_in_both_phases_leave_no_trace(finished, tmp_path, monkeypatch, capsys):
    for table, step, signum in (
        ("metrics", 20, signal.SIGKILL),
        ("metrics", BOUNDARY, signal.SIGINT),
        ("evaluations", BOUNDARY, signal.SIGTERM),
        ("metrics", 80, signal.SIGKILL),  # In the second phase, before its first checkpoint.
        ("metrics", 80, signal.SIGTERM),
        ("episodes", 110, signal.SIGTERM),  # Between the steps at which anything else is due.
        ("episodes", 135, signal.SIGKILL),
        ("evaluations", 140, signal.SIGINT),
    ):
        stop(monkeypatch, tmp_path, table, step, signum)
    progress = saved(tmp_path)[1]
    assert progress["step"] == 60 + progress["companion"]["counters"]["env_steps"] == 140
    capsys.readouterr()
    train_finetune(finetune_config(), tmp_path)
    assert "repeated 5 steps of the episodes under way in" in capsys.readouterr().err
    assert_same_run(tmp_path, finished[0])


def test_an_environment_that_fails_stops_the_run_with_its_state_saved(tmp_path, monkeypatch):
    step, calls = rollout.Rollout.step, iter(range(1_000))

    def failing(self, actions):
        if next(calls) == 33:
            raise UserError("the hinge broke")
        return step(self, actions)

    with monkeypatch.context() as patch:
        patch.setattr(rollout.Rollout, "step", failing)
        with pytest.raises(UserError, match=r"^the hinge broke; step 93 is saved in"):
            train_finetune(finetune_config(), tmp_path)
    state, progress = saved(tmp_path)
    assert progress["step"] == int(state.step) == 93
    summary = train_finetune(finetune_config(), tmp_path)
    assert (summary["updates"], summary["env_steps"]) == (180, 120)


def test_the_command_survives_a_kill(tmp_path):
    """The command as a person types it, killed in earnest."""
    folder, whole = tmp_path / "run", tmp_path / "whole"
    changes = {**FINETUNE, "num_pretraining_steps": 0, "max_steps": 600}
    settings = {**pointmaze_finetune.get_config().to_dict(), **changes}
    train_finetune(from_mapping(settings, FinetuneConfig), whole)
    command = [sys.executable, "train_finetune.py", "--config=configs/pointmaze_finetune.py"]
    command += [f"--workdir={folder}", *(f"--config.{k}={v}" for k, v in changes.items())]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while len(list((folder / "checkpoints").glob("[0-9]*"))) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.kill()
    assert process.communicate()[1].count("Traceback") == 0
    resumed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "repeated" in resumed.stderr
    assert_same_run(folder, whole)
