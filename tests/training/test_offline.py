"""A whole offline run, small, on a real environment: what it writes, resumes and reports."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from minari_datasets import box, coded_episodes, write_dataset
from small_runs import DATASET, OFFLINE, ROOT, assert_same_run, offline_config
from tables import untimed_rows

from iql_jax.data.download import DownloadFailed
from iql_jax.generation import provide
from iql_jax.training import evaluation
from iql_jax.training.evaluation import Evaluation
from iql_jax.training.load import load_policy, load_run
from iql_jax.training.offline import train_offline
from iql_jax.training.run import open_run
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted

pytestmark = pytest.mark.usefixtures("pointmaze")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pointmaze):
    folder = tmp_path_factory.mktemp("run")
    return folder, train_offline(offline_config(), folder)


def test_the_folder_holds_what_the_readme_lists(finished):
    folder, _ = finished
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "checkpoints", "config.json", "evaluations.csv", "learning_curve.png",
        "metrics.csv", "summary.json", "tb", "value_map.png",
    }  # fmt: skip
    record = json.loads((folder / "config.json").read_text())
    assert record["dataset"]["id"] == record["dataset"]["requested_id"] == DATASET
    assert record["dataset"]["choices"]["reward_transform"]["name"] == "minus_one"
    for picture in ("learning_curve.png", "value_map.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def test_the_summary_has_the_last_evaluation_and_the_speed(finished):
    folder, summary = finished
    assert summary == json.loads((folder / "summary.json").read_text())
    last = untimed_rows(folder / "evaluations.csv")[-1]
    assert summary["score"] == float(last["score"]) == 100 * summary["success_rate"]
    assert summary["updates"] == int(last["update"]) == 60
    assert summary["eval_episodes"] == int(last["episodes"]) == 2
    assert len(summary["dataset"]["fingerprint"]) == 64
    assert summary["updates_per_second"] > 0
    assert summary["wall_seconds"] > summary["eval_seconds"] > 0
    # The same command again has nothing to do.
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert train_offline(offline_config(), folder) == summary
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_training_without_evaluation_needs_no_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    write_dataset("test/box-v0", coded_episodes(lengths=(40, 25)), box(4))
    settings = {"dataset": "test/box-v0", "reward_transform": "none"}
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=r"names no environment.*config\.eval_episodes=0"):
        train_offline(offline_config(**settings), folder)
    # In the same folder, for nothing was started.
    summary = train_offline(offline_config(**settings, eval_episodes=0), folder)
    assert (summary["updates"], summary["score"]) == (60, None)
    assert not (folder / "evaluations.csv").exists()


def test_the_last_evaluation_is_filmed(tmp_path, monkeypatch, caplog):
    config, filmed = offline_config(video=True, max_steps=20), []
    monkeypatch.setenv("MUJOCO_GL", "off")
    with pytest.raises(UserError, match="cannot render"):
        train_offline(config, tmp_path)
    monkeypatch.setattr(evaluation, "configure_headless_rendering", lambda: None)
    monkeypatch.setattr(
        evaluation, "record_episode", lambda task, path: filmed.append((task, path))
    )
    train_offline(config, tmp_path)
    ((task, path),) = filmed
    assert (task.seed, path) == (evaluation.derived_seed(config.seed, 20), tmp_path / "film.mp4")
    done, files, further = caplog.messages[-3:]
    assert "score" in done
    assert "confidence" in done
    assert "learning_curve.png" in files
    assert "iql_jax.evaluate" in further


def test_arrays_in_memory_train_and_a_function_sees_the_policy(tmp_path):
    rng = np.random.default_rng(0)
    data = {"observations": rng.normal(size=(50, 3)), "actions": rng.uniform(-1, 1, (50, 2))}
    data |= {"rewards": rng.normal(size=50), "terminals": np.zeros(50), "timeouts": np.zeros(50)}
    seen = []

    def see(step, policy, row):
        seen.append((step, policy(data["observations"]), row))
        return {"mine": step / 2}

    config = offline_config(reward_transform="none")
    summary = train_offline(config, tmp_path, data, see)
    assert summary["dataset"]["origin"] == "memory"
    assert [(step, row) for step, _, row in seen] == [(40, {}), (60, {})]
    expected = load_policy(tmp_path)(data["observations"])
    np.testing.assert_array_equal(seen[-1][1], expected)
    assert [row["mine"] for row in untimed_rows(tmp_path / "evaluations.csv")] == ["20.0", "30.0"]
    with pytest.raises(UserError, match="run on other data"):
        train_offline(config, tmp_path, {**data, "rewards": np.zeros(50)})
    with pytest.raises(UserError, match="trained on arrays in memory"):
        load_run(tmp_path)


def test_a_run_started_on_generated_data_stays_with_them(tmp_path, monkeypatch):
    def fail(dataset_id, root):
        raise DownloadFailed("no network today")

    monkeypatch.setattr(provide, "download", fail)
    wanted = "D4RL/pointmaze/umaze-v2"
    config = offline_config(dataset=wanted, eval_episodes=0, dataset_fallback="generate")
    with open_run(config, tmp_path / "started") as run:
        fingerprint = run.record["dataset"]["fingerprint"]
    config = offline_config(dataset=wanted, eval_episodes=0, dataset_fallback="fail")
    write_dataset(wanted, coded_episodes(), box(4))
    for folder, beside, expected in (
        (tmp_path / "started", None, DATASET),
        (tmp_path / "after", tmp_path / "started", DATASET),
        (tmp_path / "new", None, wanted),
    ):
        with open_run(config, folder, beside) as run:
            found = run.record["dataset"]
            assert (found["id"], found["requested_id"]) == (expected, wanted)
            assert (found["fingerprint"] == fingerprint) == (expected == DATASET)


def test_a_stop_while_the_policy_is_shown_can_be_resumed(tmp_path, monkeypatch):
    shown = Evaluation.episodes

    def stopped(self, *arguments, record=0, **options):
        if record:
            monkeypatch.setattr(Evaluation, "episodes", shown)
            os.kill(os.getpid(), signal.SIGTERM)
        return shown(self, *arguments, record=record, **options)

    monkeypatch.setattr(Evaluation, "episodes", stopped)
    config = offline_config(max_steps=4)
    with pytest.raises(Interrupted, match="SIGTERM") as caught:
        train_offline(config, tmp_path)
    assert caught.value.resumable
    assert train_offline(config, tmp_path)["updates"] == 4


def test_a_command_that_is_killed_and_stopped_comes_to_the_same_bits(tmp_path):
    settings = {**OFFLINE, "max_steps": 4_000, "eval_interval": 2_000, "log_interval": 250}
    settings |= {"checkpoint_interval": 500}
    folder = tmp_path / "stopped"
    command = [sys.executable, "train_offline.py", "--config=configs/base.py"]
    command += [f"--workdir={folder}", *(f"--config.{k}={v}" for k, v in settings.items())]

    def start():
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)

    def stop(rows, signum):
        """Start the command, and send it a signal when it has logged so many rows."""
        process, metrics = start(), folder / "metrics.csv"
        while not (metrics.exists() and metrics.read_text().count("\n") > rows):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        os.kill(process.pid, signum)
        message = process.communicate()[1]
        assert not (folder / "summary.json").exists()
        return process.returncode, message

    assert stop(4, signal.SIGKILL)[0] == -signal.SIGKILL
    status, message = stop(9, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    for part in ("resuming", "stopped by SIGTERM at update", "; resume with: "):
        assert part in message
    resumed = start()
    message = resumed.communicate()[1]
    assert resumed.returncode == 0, message
    train_offline(offline_config(**settings), tmp_path / "whole")
    assert_same_run(folder, tmp_path / "whole")


def test_the_tutorials_policy_acts(finished):
    tutorial = (ROOT / "docs" / "tutorial.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", tutorial, re.DOTALL)
    found = {}
    exec(example.replace("runs/pointmaze", str(finished[0])), found)
    assert found["environment"].action_space.contains(np.asarray(found["action"]))
    found["environment"].close()
