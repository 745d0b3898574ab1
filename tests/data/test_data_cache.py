"""The cache: the same arrays again, never stale, never half-written, never in the way."""

import dataclasses
import json
import os
import shutil
import time

import h5py
import numpy as np
import pytest
from minari_datasets import box, coded_episodes, write_dataset

from iql_jax.data import cache


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("IQL_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder():
    return write_dataset("test/box-v0", coded_episodes(), box(4))


@pytest.fixture
def reads(monkeypatch):
    """Counts how often a dataset's own files are read."""
    calls = []
    read = cache.read_episodes

    def counting(path, progress):
        calls.append(path)
        return read(path, progress)

    monkeypatch.setattr(cache, "read_episodes", counting)
    return calls


def load(folder):
    return cache.load_episodes(folder, progress=False)


def assert_same(one, other):
    assert one.is_dict == other.is_dict
    assert list(one.observations) == list(other.observations)
    for name, array in cache._arrays(one).items():
        again = cache._arrays(other)[name]
        np.testing.assert_array_equal(array, again, strict=True)
        assert again.flags.c_contiguous


def test_the_second_load_is_the_same_and_does_not_read_the_dataset(folder, reads, cached):
    first, fingerprint = load(folder)
    again, same_fingerprint = load(folder)
    assert_same(first, again)
    assert len(reads) == 1
    assert fingerprint == same_fingerprint == cache.fingerprint(again)
    assert [file.suffix for file in cached.iterdir()] == [".npz"]


def test_the_datasets_folder_is_left_alone(folder):
    before = sorted((file, file.stat().st_mtime_ns) for file in folder.rglob("*"))
    load(folder)
    assert before == sorted((file, file.stat().st_mtime_ns) for file in folder.rglob("*"))


def test_a_dataset_that_changes_is_read_again(folder, reads, cached):
    _, before = load(folder)
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        file["episode_2/rewards"][4] = 7.0
    episodes, after = load(folder)
    assert episodes.rewards[8] == 7
    assert before != after
    assert len(reads) == 2
    assert len(list(cached.iterdir())) == 1  # The stale copy is replaced.
    load(folder)
    assert len(reads) == 2


def test_a_new_format_version_is_read_again(folder, reads, monkeypatch):
    load(folder)
    monkeypatch.setattr(cache, "_FORMAT_VERSION", cache._FORMAT_VERSION + 1)
    load(folder)
    assert len(reads) == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "junk", "empty"])
def test_a_damaged_copy_is_made_again_and_said(folder, reads, cached, capsys, damage):
    first, fingerprint = load(folder)
    (file,) = cached.iterdir()
    content = bytearray(file.read_bytes())
    if damage == "flip":  # One bit of an observation: only a checksum can tell.
        place = content.find(np.float32(1_020_010).tobytes())
        assert place > 0
        content[place] ^= 1
    file.write_bytes(
        {"flip": content, "cut": content[: len(content) // 2], "junk": b"x" * 999, "empty": b""}[
            damage
        ]
    )
    again, same_fingerprint = load(folder)
    assert_same(first, again)
    assert fingerprint == same_fingerprint
    assert "is damaged" in capsys.readouterr().err
    load(folder)
    assert len(reads) == 2


@pytest.mark.parametrize(
    ("field", "number"), [(6, 1), (8, 99)], ids=["encrypted", "of an unknown compression"]
)
def test_damage_of_other_kinds(folder, reads, cached, capsys, field, number):
    """Zip archives have flags and a method of compression, which zipfile has errors of its own for.

    They are in each entry's local header and, two bytes further in, in the central directory.
    """
    load(folder)
    (file,) = cached.iterdir()
    content = bytearray(file.read_bytes())
    content[field] = number
    content[content.find(b"PK\x01\x02") + 2 + field] = number
    file.write_bytes(content)
    load(folder)
    assert "is damaged" in capsys.readouterr().err
    assert len(reads) == 2


def test_copies_of_datasets_that_are_gone_are_removed(folder, cached):
    load(folder)
    (first,) = cached.iterdir()
    (cached / "damaged.npz").write_bytes(b"x" * 99)
    others = [write_dataset(f"test/{name}-v0", coded_episodes(), box(4)) for name in "abc"]
    load(others[0])
    shutil.rmtree(others[0])
    load(others[1])
    assert first.exists()
    names = {file.name.rpartition("-")[0] for file in cached.glob("test*")}
    assert names == {"test__box-v0", "test__b-v0"}
    assert (cached / "damaged.npz").exists()


def test_copies_that_tell_no_source_are_still_read_and_kept(folder, reads, cached):
    """Those of earlier versions."""
    _, digest = load(folder)
    (file,) = cached.iterdir()
    with np.load(file) as archive:
        arrays = dict(archive)
    header = json.loads(str(arrays["header"]))
    assert header.pop("source") == str(folder)
    np.savez(file, **arrays | {"header": np.array(json.dumps(header))})
    assert load(folder)[1] == digest
    assert len(reads) == 1
    shutil.rmtree(folder)
    load(write_dataset("test/other-v0", coded_episodes(), box(4)))
    assert file.exists()


def test_what_killed_processes_left_is_swept(folder, cached):
    cached.mkdir()
    for name, days in ((".making-old.npz", 2), (".making-new.npz", 0)):
        (cached / name).write_bytes(b"half")
        then = time.time() - days * 24 * 3600
        os.utime(cached / name, (then, then))
    load(folder)
    assert [file.name for file in cached.glob(".*")] == [".making-new.npz"]


def test_two_datasets_of_one_id_in_two_places(folder, tmp_path, monkeypatch):
    load(folder)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "elsewhere"))
    other = write_dataset("test/box-v0", coded_episodes(lengths=(2, 2)), box(4))
    assert load(other)[0].num_transitions == 4
    assert load(folder)[0].num_transitions == 9


def test_going_on_without_a_cache(folder, cached, capsys):
    cached.write_text("a file where the folder should be")
    episodes, _ = load(folder)
    assert episodes.num_transitions == 9
    said = capsys.readouterr().err
    assert "damaged" not in said
    assert "going on without" in said


def test_others_may_read_a_copy(folder, cached):
    before = os.umask(0o022)
    try:
        load(folder)
    finally:
        os.umask(before)
    (file,) = cached.iterdir()
    assert file.stat().st_mode & 0o777 == 0o644


def test_an_interrupted_write_leaves_nothing(folder, cached, monkeypatch):
    def interrupted(stream, **arrays):
        stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(cache.np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(folder)
    assert list(cached.iterdir()) == []


def test_the_fingerprint_is_of_the_content(folder):
    episodes, fingerprint = load(folder)
    copy = write_dataset("test/copy-v0", coded_episodes(), box(4))
    os.utime(copy / "data" / "main_data.hdf5", (1, 1))
    assert load(copy)[1] == fingerprint
    assert len(fingerprint) == 64

    rewards = episodes.rewards.copy()
    rewards[3] += 1
    ends = episodes.truncations.copy()
    ends[3] = True
    # The same numbers in other shapes, names or places are another dataset.
    rows = episodes.observations["observation"]
    for change in (
        {"rewards": rewards},
        {"truncations": ends},
        {"observations": {"observation": rows.reshape(-1, 2)}},
        {"observations": {"state": rows}},
        {"lengths": np.array([1, 3, 5])},
        {"terminations": episodes.truncations, "truncations": episodes.terminations},
    ):
        assert cache.fingerprint(dataclasses.replace(episodes, **change)) != fingerprint


def test_the_default_place(monkeypatch):
    monkeypatch.delenv("IQL_JAX_CACHE")
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(cache.cache_folder()) == "/somewhere/.cache/iql_jax"
