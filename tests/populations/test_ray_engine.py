"""Populations as tasks of a local Ray, one of whose workers is killed."""

import os
import signal
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from small_runs import assert_same_run, offline_config

from iql_jax.generation.provide import Provided
from iql_jax.populations.folder import Population
from iql_jax.populations.ray_engine import ray_engine
from iql_jax.populations.run import train_sweep
from iql_jax.populations.sweep import members_of
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted

CONFIG = offline_config(
    max_steps=4_000, log_interval=1_000, checkpoint_interval=500, eval_episodes=0, num_seeds=2
)


def kill_the_worker_after(checkpoint, killed):
    """Kill, by SIGKILL, the process that trains, when a checkpoint is there."""
    import psutil

    while not checkpoint.exists():
        time.sleep(0.005)
    for process in psutil.Process().children(recursive=True):
        command = process.cmdline()
        if command and command[0].startswith("ray::train_population"):
            os.kill(process.pid, signal.SIGKILL)
            killed.append(process.pid)


@pytest.mark.filterwarnings("ignore")  # Ray's own, of files and sockets that it leaves open.
def test_a_killed_worker_leaves_no_trace(pointmaze, tmp_path):
    ray = pytest.importorskip("ray")
    members = members_of(CONFIG)
    killed = []
    checkpoint = tmp_path / "ray" / "populations" / "0" / "checkpoints" / "1000"
    killer = threading.Thread(target=kill_the_worker_after, args=(checkpoint, killed), daemon=True)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        killer.start()
        rows = train_sweep(members, tmp_path / "ray", engine=ray_engine(cpus=1, gpus=0))
        killer.join(timeout=10)
        assert len(killed) == 1
        assert [row["status"] for row in rows] == ["finished"] * 2
        # A task's error is the command's: nothing can be written into this folder.
        broken = tmp_path / "broken" / members[0].name / ".config.partial.json" / "in the way"
        broken.mkdir(parents=True)
        (tmp_path / "broken" / "population.json").write_text('{"populations": []}')
        with pytest.raises(OSError, match="Is a directory"):
            train_sweep(members[:1], tmp_path / "broken", engine=ray_engine(cpus=1, gpus=0))
    finally:
        ray.shutdown()
    assert rows == train_sweep(members, tmp_path / "here")
    for member in members:
        assert_same_run(tmp_path / "ray" / member.name, tmp_path / "here" / member.name)


class FakeRay:
    """A Ray whose tasks fail, or do nothing, or never end."""

    class exceptions:
        RayError = type("RayError", (Exception,), {})
        RayTaskError = type("RayTaskError", (RayError,), {})
        OutOfMemoryError = type("OutOfMemoryError", (RayError,), {})

    def __init__(self, error=None, ends=True):
        self.error, self.ends, self.given = error, ends, []

    def is_initialized(self):
        return True

    def remote(self, **resources):
        task = types.SimpleNamespace(remote=lambda p: self.given.append(p) or len(self.given))
        return lambda function: task

    def wait(self, tasks, num_returns, timeout):
        if not self.ends:
            os.kill(os.getpid(), signal.SIGINT)
        return (tasks[:1] if self.ends else []), tasks

    def get(self, task):
        if self.error is not None:
            raise self.error


@pytest.fixture
def train_with(monkeypatch, tmp_path):
    """Give two populations of a relative folder to a Ray of the test's."""
    monkeypatch.chdir(tmp_path)
    sources = {CONFIG.dataset: Provided(CONFIG.dataset, CONFIG.dataset, "local")}

    def train(ray):
        monkeypatch.setitem(sys.modules, "ray", ray)
        members = members_of(CONFIG)
        populations = [Population([m], Path("runs"), i, sources) for i, m in enumerate(members)]
        return list(ray_engine(cpus=1, gpus=0)(populations))

    return train


def test_a_task_gets_an_absolute_folder_which_all_nodes_must_share(train_with, tmp_path):
    ray = FakeRay()
    with pytest.raises(UserError, match=r"runs does not hold .* share"):
        train_with(ray)
    assert [population.workdir for population in ray.given] == [tmp_path / "runs"] * 2


def test_errors_of_ray_itself_are_one_line(train_with):
    error = FakeRay.exceptions.OutOfMemoryError("Task was killed\nas memory ran low")
    with pytest.raises(UserError, match=r"OutOfMemoryError: Task was killed\)"):
        train_with(FakeRay(error))


def test_ctrl_c_can_be_resumed(train_with):
    with pytest.raises(Interrupted, match="stopped by SIGINT") as caught:
        train_with(FakeRay(ends=False))
    assert caught.value.resumable
