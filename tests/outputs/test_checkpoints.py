"""Checkpoints that are damaged, of another run's shape, read by others, or without room."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from toy_loop import Crash, Toy, assert_same_run

from iql_jax import cli
from iql_jax.outputs.checkpoints import Checkpoints
from iql_jax.utils.errors import UserError

ROOT = Path(__file__).parents[2]


def test_a_truncated_newest_checkpoint_falls_back_to_the_one_before(
    tmp_path, uninterrupted, capsys
):
    with pytest.raises(Crash):
        Toy(tmp_path, fail_at=12).loop.run()
    saved = sorted((tmp_path / "checkpoints").iterdir(), key=lambda path: int(path.name))
    assert len(saved) >= 2
    for file in (saved[-1] / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    state, _ = Toy(tmp_path).loop.run()
    said = capsys.readouterr().err
    assert f"checkpoint {saved[-1]} cannot be read" in said
    assert f"resuming {tmp_path} at update {int(saved[-2].name):,}" in said
    assert_same_run(tmp_path, state, uninterrupted)


def test_no_memory_is_no_damage(tmp_path, monkeypatch, uninterrupted):
    with pytest.raises(Crash):
        Toy(tmp_path, fail_at=12).loop.run()
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())

    def full(self, *args, **kwargs):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "restore", full)
        with pytest.raises(SystemExit), contextlib.redirect_stderr(io.StringIO()) as said:
            cli.guard(Toy(tmp_path).loop.run)
    assert said.getvalue().startswith("out of memory (RESOURCE_EXHAUSTED: ")
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == before
    state, _ = Toy(tmp_path).loop.run()
    assert_same_run(tmp_path, state, uninterrupted)


def test_when_no_checkpoint_can_be_read_the_run_does_not_start_anew(tmp_path):
    with pytest.raises(Crash):
        Toy(tmp_path, fail_at=5).loop.run()
    for file in (tmp_path / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    for _ in range(2):  # Neither the first start nor the next.
        with pytest.raises(UserError, match="none of the checkpoints"):
            Toy(tmp_path).loop.run()


def test_a_state_of_another_shape_leaves_the_checkpoints_alone(tmp_path):
    Toy(tmp_path, {"max_steps": 2_000}).loop.run()
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    other = Toy(tmp_path, {"max_steps": 2_000})
    object.__setattr__(other.loop, "template", (jnp.ones(4), jnp.zeros((), jnp.int32)))
    with pytest.raises(UserError, match="none of the checkpoints"):
        other.loop.run()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == before


def test_a_reader_beside_a_run_changes_nothing(tmp_path):
    toy = Toy(tmp_path, {"max_steps": 2_000})
    toy.loop.run()
    newest = tmp_path / "checkpoints" / "2000"
    for file in (newest / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        (_, step), _ = checkpoints.restore_newest(Toy(tmp_path).loop.template)
    assert int(step) == 1_800
    assert newest.exists()
    assert not (tmp_path / "damaged_checkpoints").exists()


def test_the_same_update_may_be_damaged_twice(tmp_path):
    for _ in range(2):
        with contextlib.suppress(Crash):
            Toy(tmp_path, fail_at=12).loop.run()
        newest = max((tmp_path / "checkpoints").iterdir(), key=lambda path: int(path.name))
        for file in (newest / "state").rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
    with contextlib.suppress(Crash):
        Toy(tmp_path, fail_at=2).loop.run()
    names = [path.name for path in (tmp_path / "damaged_checkpoints").iterdir()]
    assert len(names) == 2


def test_of_several_processes_one_sets_a_damaged_checkpoint_aside(tmp_path):
    script = """
import sys
from pathlib import Path
import numpy as np
from iql_jax.utils import hosts
from iql_jax.outputs.checkpoints import Checkpoints
hosts.start("localhost:" + sys.argv[1], 2, int(sys.argv[2]))
folder = Path(sys.argv[3]) / "checkpoints"
state = {"x": np.arange(3.0)}
with Checkpoints(folder) as checkpoints:
    for update in (1, 2):
        checkpoints.save(update, {"x": state["x"] + update}, {"update": update})
hosts.barrier("saved")
if hosts.is_writer():
    for file in (folder / "2" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
hosts.barrier("damaged")
with Checkpoints(folder) as checkpoints:
    restored = checkpoints.restore_newest(state)
    print(restored[1]["update"], restored[0]["x"].tolist(), checkpoints.newest())
"""
    port = str(40_000 + os.getpid() % 20_000)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, port, str(i), str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert [output.splitlines()[-1] for output, _ in said] == ["1 [1.0, 2.0, 3.0] 1"] * 2
    assert len(list((tmp_path / "damaged_checkpoints").iterdir())) == 1


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
    toy = Toy(small_disk)
    rng = np.random.default_rng(0)

    def advance(state, num_updates):
        # Random numbers, for checkpoints are compressed.
        numbers = rng.uniform(size=60_000).astype(np.float32)
        return (jnp.asarray(numbers), state[1] + num_updates), {"loss": jnp.zeros(())}

    object.__setattr__(toy.loop, "template", (jnp.zeros(60_000), jnp.zeros((), jnp.int32)))
    toy.advance = advance
    with pytest.raises(UserError, match=r"no space left to save step \d+"):
        toy.loop.run()
    assert "Traceback" not in "".join(capfd.readouterr())
