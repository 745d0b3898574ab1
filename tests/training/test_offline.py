"""A whole offline run, small, on a real environment: what it writes, resumes and reports."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from minari_datasets import box, coded_episodes, write_dataset
from tables import untimed_rows

from iql_jax.data.download import DownloadFailed
from iql_jax.generation import provide
from iql_jax.generation.generate import generate
from iql_jax.outputs.checkpoints import Checkpoints
from iql_jax.training.config import from_mapping
from iql_jax.training.evaluation import RunEvaluation
from iql_jax.training.offline import train_offline
from iql_jax.training.run import initial_state, load_source, open_runs
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted

ROOT = Path(__file__).parents[2]

SETTINGS = {
    "dataset": "iql/pointmaze/umaze-v0",
    "reward_transform": "minus_one",
    "hidden_dims": (16, 16),
    "batch_size": 32,
    "max_steps": 60,
    "log_interval": 20,
    "eval_interval": 30,
    "eval_episodes": 3,
    "eval_envs": 2,
    "checkpoint_interval": 30,
    "progress": False,
}


@pytest.fixture(scope="module", autouse=True)
def datasets(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        patch.setenv("IQL_JAX_CACHE", str(root / "cache"))
        generate("iql/pointmaze/umaze-v0", steps=1_500, seed=0, progress=False)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, datasets):
    folder = tmp_path_factory.mktemp("run")
    return folder, train_offline(from_mapping(SETTINGS), folder)


def final_state(folder):
    config = from_mapping(json.loads((folder / "config.json").read_text())["config"])
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        state, _ = checkpoints.restore_newest(initial_state(config, load_source(config)))
    return state


def test_the_folder_holds_all_that_the_readme_promises(finished):
    folder, _ = finished
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "checkpoints", "config.json", "evaluations.csv", "learning_curve.png",
        "metrics.csv", "summary.json", "tb", "value_map.png",
    }  # fmt: skip
    record = json.loads((folder / "config.json").read_text())
    assert record["dataset"]["id"] == SETTINGS["dataset"]
    assert record["dataset"]["choices"]["reward_transform"]["name"] == "minus_one"
    assert record["config"]["hidden_dims"] == [16, 16]
    for picture in ("learning_curve.png", "value_map.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def test_the_summary_says_what_was_reached_and_how(finished):
    folder, summary = finished
    assert summary == json.loads((folder / "summary.json").read_text())
    last = untimed_rows(folder / "evaluations.csv")[-1]
    assert summary["score"] == float(last["score"])
    assert summary["success_rate"] == float(last["success_rate"]) == summary["score"] / 100
    assert summary["updates"] == int(last["update"]) == 60
    assert summary["eval_episodes"] == int(last["episodes"]) == 3
    assert summary["dataset"]["id"] == SETTINGS["dataset"]
    assert len(summary["dataset"]["fingerprint"]) == 64
    assert summary["seed"] == 42
    assert summary["updates_per_second"] > 0
    assert summary["wall_seconds"] > summary["eval_seconds"] > 0
    assert {"return_mean", "return_std", "versions", "device"} <= set(summary)


def test_metrics_are_logged_at_their_interval(finished):
    metrics = untimed_rows(finished[0] / "metrics.csv")
    assert [row["update"] for row in metrics] == ["20", "40", "60"]
    assert all(np.isfinite(float(value)) for row in metrics for value in row.values())


def test_the_same_run_twice_is_the_same_bits(finished, tmp_path):
    folder, _ = finished
    train_offline(from_mapping(SETTINGS), tmp_path)
    for table in ("metrics.csv", "evaluations.csv"):
        assert untimed_rows(tmp_path / table) == untimed_rows(folder / table)
    for ours, theirs in zip(
        jax.tree.leaves(final_state(tmp_path).actor.params),
        jax.tree.leaves(final_state(folder).actor.params),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_another_run_is_not_mixed_into_the_folder(finished):
    with pytest.raises(UserError, match=r"other settings \(seed 42 -> 43\)"):
        train_offline(from_mapping({**SETTINGS, "seed": 43}), finished[0])


def test_training_without_evaluation_needs_no_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    write_dataset("test/box-v0", coded_episodes(lengths=(40, 25)), box(4))
    settings = {**SETTINGS, "dataset": "test/box-v0", "reward_transform": "none"}
    folder = tmp_path / "run"
    with pytest.raises(
        UserError, match=r"names no environment.*; --config\.eval_episodes=0 trains"
    ):
        train_offline(from_mapping(settings), folder)
    # In the same folder, for nothing was begun.
    summary = train_offline(from_mapping({**settings, "eval_episodes": 0}), folder)
    assert summary["updates"] == 60
    assert summary["score"] is None
    assert not (folder / "evaluations.csv").exists()


def test_a_run_begun_on_a_twin_goes_on_with_it(tmp_path, monkeypatch):
    def fail(dataset_id, root):
        raise DownloadFailed("no network today")

    monkeypatch.setattr(provide, "download", fail)
    wanted = "D4RL/pointmaze/umaze-v2"
    config = from_mapping({**SETTINGS, "dataset": wanted, "eval_episodes": 0})
    begun, new, after = tmp_path / "begun", tmp_path / "new", tmp_path / "after"
    with open_runs([config], [begun]) as (run,):
        fingerprint = run.record["dataset"]["fingerprint"]
    write_dataset(wanted, coded_episodes(), box(4))
    for folder, id_, beside in (
        (begun, SETTINGS["dataset"], []),
        (after, SETTINGS["dataset"], [begun]),
        (new, wanted, []),
    ):
        with open_runs([config], [folder], beside) as (run,):
            assert (run.record["dataset"]["id"], run.dataset.record["id"]) == (id_, id_)
            assert (run.record["dataset"]["fingerprint"] == fingerprint) == (id_ != wanted)


def test_a_stop_while_the_policy_is_shown_can_be_resumed(tmp_path, monkeypatch):
    shown = RunEvaluation.episodes

    def stopped(self, state, step, episodes, stop, record=0):
        if record:
            monkeypatch.setattr(RunEvaluation, "episodes", shown)
            os.kill(os.getpid(), signal.SIGTERM)
        return shown(self, state, step, episodes, stop, record)

    monkeypatch.setattr(RunEvaluation, "episodes", stopped)
    settings = {**SETTINGS, "hidden_dims": (8,), "max_steps": 4}
    with pytest.raises(Interrupted, match="SIGTERM") as caught:
        train_offline(from_mapping(settings), tmp_path)
    assert caught.value.resumable
    assert train_offline(from_mapping(settings), tmp_path)["updates"] == 4


def test_a_diverging_run_stops_and_says_where(tmp_path):
    settings = {**SETTINGS, "critic_lr": 1e30, "value_lr": 1e30, "eval_episodes": 0}
    with pytest.raises(UserError, match="not finite between updates 0 and 20"):
        train_offline(from_mapping(settings), tmp_path)
    assert (tmp_path / "diagnosis" / "20").is_dir()
    assert not (tmp_path / "summary.json").exists()


def test_a_command_that_is_killed_and_stopped_comes_to_the_same_bits(finished, tmp_path):
    settings = {**SETTINGS, "max_steps": 4_000, "eval_interval": 2_000, "checkpoint_interval": 500}
    settings |= {"log_interval": 250}
    command = [
        sys.executable,
        "train_offline.py",
        "--config=configs/base.py",
        f"--workdir={tmp_path / 'stopped'}",
        *(f"--config.{key}={value}" for key, value in settings.items()),
    ]
    metrics = tmp_path / "stopped" / "metrics.csv"

    def start():
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)

    def stop(rows, signum):
        """Start the command, and send it a signal when it has logged so many rows."""
        process = start()
        while not (metrics.exists() and metrics.read_text().count("\n") > rows):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        os.kill(process.pid, signum)
        said = process.communicate()[1]
        assert not (tmp_path / "stopped" / "summary.json").exists()
        return process.returncode, said

    status, _ = stop(4, signal.SIGKILL)
    assert status == -signal.SIGKILL
    status, said = stop(9, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert "resuming" in said
    assert "stopped by SIGTERM at update" in said
    assert "; resume with: " in said

    resumed = start()
    said = resumed.communicate()[1]
    assert resumed.returncode == 0, said
    assert "resuming" in said
    train_offline(from_mapping(settings), tmp_path / "whole")
    for table in ("metrics.csv", "evaluations.csv"):
        rows, expected = (untimed_rows(tmp_path / run / table) for run in ("stopped", "whole"))
        assert rows == expected
    for ours, theirs in zip(
        jax.tree.leaves(final_state(tmp_path / "stopped")),
        jax.tree.leaves(final_state(tmp_path / "whole")),
        strict=True,
    ):
        if jax.dtypes.issubdtype(ours.dtype, jax.dtypes.prng_key):
            ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
        np.testing.assert_array_equal(ours, theirs)


def test_a_command_stopped_before_its_first_update_leaves_nothing_behind(tmp_path):
    environment = {**os.environ, "MINARI_DATASETS_PATH": str(tmp_path / "datasets")}
    command = [
        sys.executable,
        "train_offline.py",
        "--config=configs/pointmaze.py",
        f"--workdir={tmp_path / 'run'}",
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:  # The data are being made now.
        if line.startswith("making"):
            break
    time.sleep(1.0)
    process.terminate()
    said = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()
    # Finished parts of the dataset stay, for the same command to go on from.
    assert all(path.name.startswith(".") for path in (tmp_path / "datasets").iterdir())


def test_the_tutorials_policy_acts(finished):
    folder, _ = finished
    tutorial = (ROOT / "docs" / "tutorial.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", tutorial, re.DOTALL)
    found = {}
    exec(example.replace("runs/pointmaze", str(folder)), found)
    assert found["run"].step == found["run"].settings.max_steps
    assert found["environment"].action_space.contains(np.asarray(found["action"]))
    found["environment"].close()
