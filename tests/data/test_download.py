"""Downloads from a server that speaks the hub's protocol: whole, or not at all."""

import os
import signal
import time

import pytest
from hub_server import Hub
from huggingface_hub import constants
from minari_datasets import BOX, load, write_box

from iql_jax.data.download import DownloadFailed, download


@pytest.fixture
def hub(tmp_path, data_folders, monkeypatch):
    """A server that has BOX, while ``data_folders`` is empty."""
    data_folders.mkdir()
    with monkeypatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
        folder = write_box().parent
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with Hub(folder) as server:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        yield server


def test_a_dataset_is_moved_to_its_place_when_it_is_whole(hub, data_folders):
    download(BOX, data_folders)
    assert [path.name for path in data_folders.iterdir()] == ["test"]
    assert load(BOX).size == 9


@pytest.mark.parametrize(
    ("step", "fault", "line"),
    [
        *[("list", status, f"answers {status} [A-Z]") for status in (500, 503, 429, 404)],
        ("list", 401, "answers 401 Unauthorized .*token"),
        ("HEAD", 500, "answers 500"),
        ("GET main_data.hdf5", 503, "answers 503"),
        ("GET main_data.hdf5", "cut", "peer closed"),
        ("GET main_data.hdf5", "short", "should be of size"),
        ("GET main_data.hdf5", "flip", "main_data.hdf5 arrived damaged"),
        ("GET metadata.json", "flip", "metadata.json arrived damaged"),  # With Git's checksum.
    ],
)
def test_a_fault_of_the_server_is_one_line_and_leaves_nothing(
    hub, data_folders, monkeypatch, capfd, step, fault, line
):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # The client's, between attempts.
    hub.faults[step] = fault
    with pytest.raises(DownloadFailed, match=rf"^{hub.url}: [^\n]*{line}[^\n]*$"):
        download(BOX, data_folders)
    assert list(data_folders.iterdir()) == []
    assert capfd.readouterr().err == ""  # Nothing of the client's.


def test_ctrl_c_ends_a_transfer_that_stalls(hub, data_folders):
    hub.faults["GET main_data.hdf5"] = "stall"
    hub.on_stall = lambda: os.kill(os.getpid(), signal.SIGINT)
    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        download(BOX, data_folders)
    assert time.perf_counter() - started < 2
    assert list(data_folders.iterdir()) == []


def test_no_server(hub, data_folders, monkeypatch):
    hub.server_close()
    with pytest.raises(DownloadFailed, match=rf"^{hub.url}: .*refused"):
        download(BOX, data_folders)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE"):
        download(BOX, data_folders)


def test_an_id_that_the_server_has_not_and_a_folder_that_is_not_there(hub, data_folders):
    with pytest.raises(DownloadFailed, match="no such dataset"):
        download("test/box-v1", data_folders)
    with pytest.raises(DownloadFailed, match=r"No such file or directory$"):  # Nor its name.
        download(BOX, data_folders / "none")
