"""Checkpoints that are damaged, of another run's shape, read by others, or without room."""

import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from iql_jax.outputs.checkpoints import Checkpoints, newest_step, read_newest
from iql_jax.utils.errors import UserError

TEMPLATE = {"x": np.zeros(3), "n": np.zeros((), np.int32)}


def state_of(step):
    return {"x": np.arange(3.0) + step / 3, "n": np.asarray(step, np.int32)}


def save(folder, *steps):
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_of(step), {"step": step})


def restore(folder, template=TEMPLATE):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore_newest(template)


def assert_is(restored, step):
    state, progress = restored
    assert progress == {"step": step}
    for name, expected in state_of(step).items():
        np.testing.assert_array_equal(state[name], expected)


def damage(path, keep=lambda size: size // 2):
    for file in path.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: keep(file.stat().st_size)])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def test_the_newest_three_are_kept_and_the_newest_is_restored(folder):
    assert newest_step(folder) is read_newest(folder, TEMPLATE) is None
    assert not folder.exists()
    save(folder, 1, 20, 300, 4_000)
    assert names(folder) == ["20", "300", "4000"]
    assert newest_step(folder) == 4_000
    assert_is(restore(folder), 4_000)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(4_000, state_of(5), {"step": 5})  # It stays as it is.
    assert_is(read_newest(folder, TEMPLATE), 4_000)


@pytest.mark.parametrize(
    ("part", "keep"),
    [("state", lambda size: size // 2), (".", lambda _: 0), ("progress", lambda _: 1)],
)
def test_a_damaged_newest_checkpoint_is_set_aside_for_the_one_before(folder, capsys, part, keep):
    for _ in range(2):  # The same step may be damaged twice.
        save(folder, 1, 2)
        damage(folder / "2" / part, keep)
        assert_is(read_newest(folder, TEMPLATE), 1)  # A reader beside a run changes nothing.
        assert names(folder) == ["1", "2"]
        assert_is(restore(folder), 1)
        assert names(folder) == ["1"]
    reported = capsys.readouterr().err
    assert f"checkpoint {folder / '2'} cannot be read" in reported
    assert "Traceback" not in reported
    assert len(names(folder.with_name("damaged_checkpoints"))) == 2


@pytest.mark.parametrize(
    ("pattern", "change"),
    [
        ("2/progress/*", lambda file: file.write_text(file.read_text().replace("2", "3", 1))),
        ("2/progress/*", lambda file: file.write_text('{"step": 2}')),
        ("2/state/array_metadatas", lambda file: file.rename(file.with_name("gone"))),
        ("2", lambda file: file.rename(file.with_name("7"))),  # It is not that of step 7.
    ],
)
def test_a_checkpoint_that_holds_something_else_is_set_aside(folder, pattern, change):
    keyed = {**TEMPLATE, "key": jax.random.key(0)}
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {**state_of(step), "key": jax.random.key(step)}, {"step": step})
    for file in sorted(folder.glob(pattern)):
        change(file)
    state, progress = restore(folder, keyed)
    assert (progress, state["key"]) == ({"step": 1}, jax.random.key(1))


@pytest.mark.parametrize(
    ("ruin", "template"),
    [
        (lambda folder: damage(folder, lambda _: 0), TEMPLATE),
        (lambda folder: None, {**TEMPLATE, "x": jnp.zeros(4)}),  # A run of another shape.
    ],
)
def test_where_none_can_be_read_all_are_left_alone(folder, ruin, template):
    save(folder, 1, 2)
    ruin(folder)
    for _ in range(2):
        with pytest.raises(UserError, match="none of the checkpoints"):
            restore(folder, template)
    assert names(folder) == ["1", "2"]


def test_want_of_memory_is_no_damage(folder, monkeypatch):
    save(folder, 1, 2)

    def full(self, *args, **kwargs):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")

    monkeypatch.setattr(ocp.CheckpointManager, "restore", full)
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        restore(folder)
    assert names(folder) == ["1", "2"]


def test_of_several_processes_one_sets_a_damaged_checkpoint_aside(tmp_path):
    script = """
import pathlib, sys
from jax.experimental import multihost_utils
from iql_jax.utils import hosts
hosts.start("localhost:" + sys.argv[1], 2, int(sys.argv[2]))
from test_checkpoints import assert_is, damage, restore, save
folder = pathlib.Path(sys.argv[3]) / "checkpoints"
save(folder, 1, 2)
multihost_utils.sync_global_devices("saved")
if hosts.is_writer():
    damage(folder / "2" / "state")
multihost_utils.sync_global_devices("damaged")
assert_is(restore(folder), 1)
"""
    port = str(40_000 + os.getpid() % 20_000)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, port, str(i), str(tmp_path)],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
        )
        for i in range(2)
    ]
    ended = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    assert len(names(tmp_path / "damaged_checkpoints")) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_clear_line(small_disk, capfd):
    folder = small_disk / "checkpoints"
    numbers = np.random.default_rng(0).uniform(size=(3, 60_000)).astype(np.float32)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(0, {"x": jnp.asarray(numbers[0])}, {})
        with pytest.raises(UserError, match=r"no space left to save step 1 .* resume"):
            checkpoints.save(1, {"x": jnp.asarray(numbers[1])}, {})
    assert "Traceback" not in "".join(capfd.readouterr())
    state, _ = restore(folder, {"x": jnp.zeros(60_000)})
    np.testing.assert_array_equal(state["x"], numbers[0])
