"""Downloads: whole, or not at all."""

import os
import pathlib

import minari
import pytest
from minari_datasets import BOX, write_box

from iql_jax.data import download as module
from iql_jax.data.download import DownloadFailed, download


@pytest.fixture(autouse=True)
def server(monkeypatch):
    """A server that answers, and has BOX."""
    monkeypatch.setattr(module, "_check_hugging_face", lambda: None)
    monkeypatch.setattr(minari, "download_dataset", lambda dataset_id: write_box())


def test_a_dataset_is_moved_to_its_place_when_it_is_whole(data_folders):
    data_folders.mkdir()
    download(BOX, data_folders)
    assert (data_folders / BOX / "data" / "metadata.json").is_file()
    assert sorted(path.name for path in data_folders.iterdir()) == ["test"]
    assert pathlib.Path(os.environ["MINARI_DATASETS_PATH"]) == data_folders


def test_nothing_is_left_of_a_failure(data_folders, monkeypatch):
    def fail(dataset_id):
        write_box()
        raise RuntimeError("the line\nbroke")

    data_folders.mkdir()
    monkeypatch.setattr(minari, "download_dataset", fail)
    with pytest.raises(DownloadFailed, match="RuntimeError: the line broke"):
        download(BOX, data_folders)
    assert list(data_folders.iterdir()) == []


def test_a_server_that_does_not_answer(data_folders, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # Nobody listens there.
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    data_folders.mkdir(exist_ok=True)
    with pytest.raises(DownloadFailed, match=r"127\.0\.0\.1:9 cannot be reached"):
        download(BOX, data_folders)
