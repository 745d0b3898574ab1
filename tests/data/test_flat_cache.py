"""Large Minari datasets are read once, and again when they have changed."""

import os

import h5py
import numpy as np
import pytest
from minari_datasets import box, coded_episodes, load, write_dataset

from iql_jax.data import flat_cache, read_minari
from iql_jax.data.find import datasets_root

ID = "test/slow-v0"


@pytest.fixture(autouse=True)
def everything_is_slow(data_folders, tmp_path, monkeypatch):
    monkeypatch.setattr(flat_cache, "SLOW_SECONDS", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_dataset(ID, coded_episodes(), box(4))


def kept(tmp_path):
    (file,) = (tmp_path / "cache").rglob("*.npz")
    return file


def data_file():
    return datasets_root() / ID / "data" / "main_data.hdf5"


def test_a_second_load_reads_no_hdf5_and_is_the_same(monkeypatch):
    first = load(ID)
    monkeypatch.setattr(read_minari, "_read_fields", lambda *_: pytest.fail("read again"))
    second = load(ID)
    assert second.record == first.record
    for name, array in first.transitions.items():
        np.testing.assert_array_equal(second.transitions[name], array)


@pytest.mark.parametrize("damage", [b"", b"no zip", None])
def test_a_damaged_cache_is_read_anew(tmp_path, damage):
    first, file = load(ID), kept(tmp_path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content if damage is None else damage)
    assert load(ID).record == first.record
    assert kept(tmp_path).stat().st_size == len(content)


def test_a_dataset_that_has_changed_is_read_anew():
    first = load(ID)
    with h5py.File(data_file(), "r+") as file:
        file["episode_0/rewards"][0] = 77
    assert load(ID).record["fingerprint"] != first.record["fingerprint"]


def test_arrays_of_another_file_are_not_kept(tmp_path):
    with h5py.File(data_file(), "r+") as file:
        other = data_file().with_name("other.h5")
        with h5py.File(other, "w") as target:
            target["rewards"] = file["episode_0/rewards"][()]
        del file["episode_0/rewards"]
        file["episode_0/rewards"] = h5py.ExternalLink(os.fspath(other), "rewards")
    load(ID)
    assert not list((tmp_path / "cache").rglob("*.npz"))
