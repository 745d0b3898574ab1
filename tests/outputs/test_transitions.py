"""Transitions on disk: what was saved comes back, what was not does not, damage is reported."""

import errno

import numpy as np
import pytest

from iql_jax.outputs import transitions as module
from iql_jax.outputs.transitions import FIELDS, TransitionLog
from iql_jax.utils.errors import UserError


def coded(first, count):
    """Transitions whose every number says which they are, and of which field and column."""
    at = np.arange(first, first + count, dtype=np.float32)
    return {
        "observations": np.stack([at, at + np.float32(0.125)], axis=1),
        "actions": at[:, None] + np.float32(0.25),
        "rewards": at + np.float32(0.375),
        "masks": at + np.float32(0.5),
        "next_observations": np.stack([at + np.float32(0.625), at + np.float32(0.75)], axis=1),
    }


def write(folder, *batches):
    """A log to which batches of single transitions were appended, saved after each batch."""
    log = TransitionLog(folder)
    log.restore(0)
    made = 0
    for batch in batches:
        for _ in range(batch):
            log.append(coded(made, 1))
            made += 1
        assert log.save() == made
    return log


def assert_reads(log, count):
    read = list(log.read())
    assert sum(len(piece["rewards"]) for piece in read) == count
    for field in FIELDS if read else ():
        whole = np.concatenate([piece[field] for piece in read])
        np.testing.assert_array_equal(whole, coded(0, count)[field])
        assert whole.dtype == np.float32


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("block", [1, 2, 5, 1_000])
def test_what_was_saved_is_read_in_its_order(tmp_path, monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK", block)  # Pieces are joined meanwhile.
    folder = tmp_path / "log"
    assert_reads(write(folder, 3, 1, 12), 16)
    files = ["000000000-000000003.npz", "000000003-000000004.npz", "000000004-000000016.npz"]
    assert names(folder) == files
    again = TransitionLog(folder)
    again.restore(16)
    assert_reads(again, 16)


def test_pending_transitions_are_neither_read_nor_written_twice(tmp_path):
    assert_reads(write(tmp_path / "none", 0), 0)
    assert not (tmp_path / "none").exists()
    log = write(tmp_path, 2)
    log.append(coded(2, 1))
    assert_reads(log, 2)
    assert log.save() == log.save() == 3
    assert_reads(log, 3)
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("saved", [0, 3, 4])
def test_transitions_after_the_checkpoint_are_dropped_and_made_again(tmp_path, saved):
    write(tmp_path, 3, 1, 12)
    (tmp_path / ".000000016-000000020.partial.npz").write_bytes(b"half a file")
    (tmp_path / "notes.txt").write_text("mine")
    log = TransitionLog(tmp_path)
    log.append(coded(99, 1))
    log.restore(saved)
    assert_reads(log, saved)
    assert len(names(tmp_path)) == {0: 0, 3: 1, 4: 2}[saved] + 1
    assert (tmp_path / "notes.txt").exists()
    log.append(coded(saved, 5))
    assert log.save() == saved + 5
    assert_reads(log, saved + 5)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_file_is_one_clear_line(tmp_path, missing):
    log = write(tmp_path, 3, 1, 12)
    (tmp_path / names(tmp_path)[missing]).unlink()
    with pytest.raises(UserError, match="of the 16 transitions") as caught:
        list(log.read())
    assert "\n" not in str(caught.value)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(bytes(content))


def leave_out_the_rewards(path):
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays if name != "rewards"}
    with path.open("wb") as file:
        np.savez(file, **kept)


@pytest.mark.parametrize("damage", [halve, flip, leave_out_the_rewards])
def test_a_damaged_file_is_one_clear_line(tmp_path, damage):
    log = write(tmp_path, 3, 400)
    path = tmp_path / names(tmp_path)[1]
    damage(path)
    with pytest.raises(UserError, match=f"{path.name} cannot be read") as caught:
        list(log.read())
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_clear_line_and_leaves_what_was_there(tmp_path, monkeypatch):
    log = write(tmp_path, 3)

    def full(file, **arrays):
        file.write(b"as far as it goes")
        raise OSError(errno.ENOSPC, "No space left on device")

    log.append(coded(3, 2))
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(UserError, match="no space left to save transitions"):
            log.save()
    assert names(tmp_path) == ["000000000-000000003.npz"]
    assert log.save() == 5  # With space again, nothing is lost.
    assert_reads(log, 5)
