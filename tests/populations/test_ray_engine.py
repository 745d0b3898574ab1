"""Populations as tasks of a local Ray, one of whose workers is killed."""

import dataclasses
import errno
import os
import signal
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from minari_datasets import box, coded_episodes, write_dataset
from tables import untimed_rows

from iql_jax.populations.folder import Population
from iql_jax.populations.ray_engine import ray_engine
from iql_jax.populations.run import train_sweep
from iql_jax.populations.sweep import members_of
from iql_jax.training.config import from_mapping
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted

CONFIG = from_mapping(
    {
        "dataset": "test/box-v0",
        "hidden_dims": (8,),
        "batch_size": 16,
        "max_steps": 6_000,
        "log_interval": 1_000,
        "checkpoint_interval": 500,
        "eval_episodes": 0,
        "progress": False,
        "num_seeds": 2,
    }
)
SWEEP = [{"discount": 0.5}, {"hidden_dims": (4, 4)}]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        patch.setenv("IQL_JAX_CACHE", str(root / "cache"))
        write_dataset("test/box-v0", coded_episodes(lengths=(40, 25)), box(4))
        yield


@pytest.fixture(scope="module")
def local_ray(dataset):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def kill_the_worker_after(checkpoint, killed):
    """Kill, by SIGKILL, the process that trains, when a checkpoint is there."""
    import psutil

    while not checkpoint.exists():
        time.sleep(0.005)
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] and process.info["cmdline"][0].startswith(
            "ray::train_population"
        ):
            os.kill(process.pid, signal.SIGKILL)
            killed.append(process.pid)


@pytest.mark.filterwarnings("ignore")  # Ray's own, of files and sockets that it leaves open.
def test_a_killed_worker_leaves_no_trace(local_ray, tmp_path):
    members = members_of(CONFIG, SWEEP)
    killed = []
    checkpoint = tmp_path / "ray" / "populations" / "0" / "checkpoints" / "1000"
    killer = threading.Thread(target=kill_the_worker_after, args=(checkpoint, killed), daemon=True)
    killer.start()
    rows = train_sweep(members, tmp_path / "ray", engine=ray_engine(cpus=1, gpus=0))
    killer.join(timeout=10)
    assert len(killed) == 1
    assert [row["status"] for row in rows] == ["finished"] * 4
    assert rows == train_sweep(members, tmp_path / "here")
    for member in members:
        ours, expected = (
            untimed_rows(tmp_path / k / member.name / "metrics.csv") for k in ("ray", "here")
        )
        assert ours == expected
        assert len(ours) == 6


@pytest.mark.filterwarnings("ignore")
def test_a_mistake_in_a_task_is_one_line(local_ray, tmp_path):
    members = members_of(dataclasses.replace(CONFIG, dataset="test/none-v0"))
    with pytest.raises(UserError, match="test/none-v0"):
        train_sweep(members, tmp_path, engine=ray_engine(cpus=1, gpus=0))


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
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)

    def train(ray):
        monkeypatch.setitem(sys.modules, "ray", ray)
        members = members_of(CONFIG)
        populations = [Population([m], Path("runs"), i) for i, m in enumerate(members)]
        return list(ray_engine(cpus=1, gpus=0)(populations))

    return train


def test_a_task_does_not_depend_on_where_its_worker_is(train_with, tmp_path):
    ray = FakeRay()
    with pytest.raises(UserError, match=r"2 populations .* runs does not hold .* share"):
        train_with(ray)
    assert [population.workdir for population in ray.given] == [tmp_path / "runs"] * 2


def test_other_errors_of_ray_are_one_line(train_with):
    error = FakeRay.exceptions.OutOfMemoryError("Task was killed\nas memory ran low")
    with pytest.raises(UserError, match=r"OutOfMemoryError: Task was killed\), after") as caught:
        train_with(FakeRay(error))
    assert "\n" not in str(caught.value)


def test_what_the_system_refused_a_task_is_raised_as_it_is(train_with):
    error = FakeRay.exceptions.RayTaskError()
    error.cause = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.csv")
    with pytest.raises(OSError, match="No space left") as caught:
        train_with(FakeRay(error))
    assert caught.value is error.cause


def test_a_task_that_was_stopped_stops_the_command(train_with):
    error = FakeRay.exceptions.RayTaskError()
    error.cause = Interrupted(signal.SIGTERM, "stopped; saved", resumable=True)
    with pytest.raises(Interrupted, match="stopped; saved") as caught:
        train_with(FakeRay(error))
    assert caught.value.resumable


def test_ctrl_c_can_be_resumed(train_with):
    with pytest.raises(Interrupted, match="stopped by SIGINT; the tasks end") as caught:
        train_with(FakeRay(ends=False))
    assert caught.value.resumable


def test_nothing_to_train_needs_no_cluster(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "ray", None)  # Importing it fails.
    assert list(ray_engine(cpus=1, gpus=0)([])) == []


def test_without_ray_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'iql_jax\[ray\]'"):
        ray_engine(cpus=1, gpus=0)
