"""From an id to a folder, and what the user is told on the way."""

import contextlib
import http.client
import importlib.util
import os
import time
import urllib.error
import warnings
from pathlib import Path

import minari
import pytest
from minari_datasets import box, coded_episodes, write_dataset

from iql_jax.data import download, resolve
from iql_jax.generation import catalog
from iql_jax.generation.workspace import AnotherIsMaking, open_workspace
from iql_jax.utils.errors import UserError

TWIN = "iql/pointmaze/umaze-v0"
WANTED = "D4RL/pointmaze/umaze-v2"  # The dataset that TWIN stands in for.


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    tried = []

    def fail(dataset_id, root):
        tried.append(dataset_id)
        raise download.DownloadFailed("no network today")

    monkeypatch.setattr(resolve, "download", fail)
    return tried


@pytest.fixture
def maker(monkeypatch):
    """Stands in for the seconds to minutes that making a dataset takes."""
    made = []

    def make(dataset_id, progress):
        made.append(dataset_id)
        return make_small(dataset_id)

    monkeypatch.setattr(catalog, "make", make)
    return made


def make_small(dataset_id):
    return write_dataset(dataset_id, coded_episodes(), box(4))


def find(dataset_id):
    return resolve.resolve(dataset_id, progress=False)


def test_a_local_dataset(root, no_network, capsys):
    make_small("lab/hand/door-v3")
    assert find("lab/hand/door-v3") == resolve.Resolved(
        "lab/hand/door-v3", "lab/hand/door-v3", "local", root / "lab/hand/door-v3"
    )
    assert no_network == []
    assert capsys.readouterr().err == ""


def test_a_download(root, monkeypatch, capsys):
    monkeypatch.setattr(resolve, "download", lambda dataset_id, root: make_small(dataset_id))
    found = find(WANTED)
    assert (found.id, found.source, found.path) == (WANTED, "downloaded", root / WANTED)
    assert "trying to download it" in capsys.readouterr().err
    assert find(WANTED).source == "local"


def test_a_twin_stands_in_loudly(root, no_network, maker, capsys):
    found = find(WANTED)
    assert found == resolve.Resolved(TWIN, WANTED, "embedded", root / TWIN)
    assert (no_network, maker) == ([WANTED], [TWIN])
    said = capsys.readouterr().err
    assert "no network today" in said
    assert f"USING ITS EMBEDDED TWIN {TWIN} INSTEAD" in said
    find(WANTED)
    assert maker == [TWIN]  # Made once.


def test_what_another_process_has_downloaded_by_then_needs_no_twin(root, maker, monkeypatch):
    def lose(dataset_id, root):
        make_small(dataset_id)
        raise download.DownloadFailed("the folder has just filled")

    monkeypatch.setattr(resolve, "download", lose)
    found = find(WANTED)
    assert (found.id, found.path, maker) == (WANTED, root / WANTED, [])


def test_what_was_begun_on_decides(root, no_network, maker, capsys):
    """A run begun on the dataset itself gets no twin, one begun on a twin nothing else."""
    with pytest.raises(UserError, match=f"{WANTED} is not in .* no network today"):
        resolve.resolve(WANTED, begun_on=WANTED)
    assert maker == []
    assert "TWIN" not in capsys.readouterr().err
    assert find(WANTED).id == TWIN
    make_small(WANTED)
    assert find(WANTED).id == WANTED
    assert resolve.resolve(WANTED, begun_on=TWIN).id == TWIN


def test_the_packages_own_datasets_are_never_downloaded(root, no_network, maker):
    assert find(TWIN) == resolve.Resolved(TWIN, TWIN, "embedded", root / TWIN)
    assert (no_network, maker) == ([], [TWIN])
    with pytest.raises(UserError, match=f"iql/pointmaze/umase-v0.*Did you mean {TWIN}"):
        find("iql/pointmaze/umase-v0")
    assert no_network == []


def test_an_unknown_id_names_others(no_network):
    make_small("lab/hand/door-v3")
    with pytest.raises(UserError, match=r"no network today\. Did you mean lab/hand/door-v3\?"):
        find("lab/hand/doors-v3")
    with pytest.raises(UserError, match=rf"There are: .*{TWIN}.*lab/hand/door-v3"):
        find("Q-v0")


@pytest.mark.parametrize(
    "name", ["D4RL/pointmaze/umaze", "../../etc-v0", "/etc/x-v0", "", "a b-v0"]
)
def test_what_is_no_id(no_network, name):
    with pytest.raises(UserError, match="is no dataset id"):
        find(name)
    assert no_network == []


def test_an_id_without_version_suggests_one(no_network):
    with pytest.raises(UserError, match=f"with the version. Did you mean {TWIN}"):
        find("iql/pointmaze/umaze")


def test_a_datasets_folder_that_cannot_be_used(root, monkeypatch):
    (root / "file").write_text("")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root / "file" / "datasets"))
    with pytest.raises(UserError, match="set MINARI_DATASETS_PATH"):
        find(WANTED)


def test_what_another_process_makes_is_waited_for(root, monkeypatch, capsys):
    """The lock is held at first; when it is free, the dataset is there."""

    def make(dataset_id, progress):
        made.append(dataset_id)
        with open_workspace(dataset_id, "digest"):
            pytest.fail("another holds the lock")

    def sleep(seconds):
        sleeps.append(seconds)
        if len(sleeps) == 3:
            make_small(TWIN)
            other.close()

    made, sleeps = [], []
    monkeypatch.setattr(catalog, "make", make)
    monkeypatch.setattr(resolve.time, "sleep", sleep)
    with contextlib.ExitStack() as other:
        other.enter_context(open_workspace(TWIN, "digest"))
        found = find(TWIN)
    assert found.path == root / TWIN
    assert made == [TWIN]
    assert len(sleeps) == 3
    said = capsys.readouterr().err
    assert said.count(f"waiting for another process that makes {TWIN}") == 1


def test_what_another_process_gave_up_is_made(monkeypatch, capsys):
    def make(dataset_id, progress):
        made.append(dataset_id)
        if len(made) == 1:
            raise AnotherIsMaking("another process is making it")
        make_small(dataset_id)

    made = []
    monkeypatch.setattr(catalog, "make", make)
    find(TWIN)
    assert made == [TWIN, TWIN]


def test_linked_datasets_are_local(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    make_small("lab/box-v0").rename(elsewhere / "box-v0")
    make_small("lab/hand/door-v3")
    (root / "lab" / "box-v0").symlink_to(elsewhere / "box-v0")  # A dataset,
    (root / "alias").symlink_to(root / "lab" / "hand")  # a namespace,
    (root / "lab" / "hand" / "loop").symlink_to(root / "lab")  # a way back,
    (root / "lab" / "gone-v0").symlink_to(elsewhere / "gone")  # and to nowhere.
    assert resolve.local_ids(root) == [
        "alias/door-v3",
        "alias/loop/box-v0",
        "lab/box-v0",
        "lab/hand/door-v3",
    ]


def test_local_ids(root):
    for dataset_id in ("box-v0", "lab/box-v1", "lab/hand/box-v10"):
        make_small(dataset_id)
    (root / ".making" / "d-v0" / "data").mkdir(parents=True)
    assert resolve.local_ids(root) == ["box-v0", "lab/box-v1", "lab/hand/box-v10"]


# Downloading, with Minari's client and the network replaced.


@pytest.fixture
def willing(monkeypatch):
    """A machine that would download, whatever its own settings are."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("MINARI_REMOTE", raising=False)


@pytest.fixture
def online(willing, monkeypatch):
    monkeypatch.setattr(download, "_why_unreachable", lambda url: None)


def test_a_download_arrives_whole(root, online, monkeypatch, capsys):
    def fetch(dataset_id):
        assert not (root / dataset_id).exists()
        print("Downloading from somewhere")
        make_small(dataset_id)
        warnings.warn("there is a newer version", stacklevel=1)

    monkeypatch.setattr(minari, "download_dataset", fetch)
    download.download("far/away/set-v0", root)
    assert resolve.local_ids(root) == ["far/away/set-v0"]
    assert (root / "far" / "namespace_metadata.json").is_file()
    assert [path.name for path in root.iterdir()] == ["far"]
    said = capsys.readouterr()
    assert said.out == ""  # Standard output belongs to results.
    assert "Minari: there is a newer version" in said.err
    minari.load_dataset("far/away/set-v0")


def test_a_download_takes_the_place_of_an_empty_folder(root, online, monkeypatch):
    (root / "far" / "away" / "set-v0").mkdir(parents=True)
    monkeypatch.setattr(minari, "download_dataset", make_small)
    assert find("far/away/set-v0").source == "downloaded"


def test_a_place_that_cannot_be_filled_is_said_before_the_download(root, online, monkeypatch):
    make_small("far/away/set-v0/inner-v0")
    monkeypatch.setattr(minari, "download_dataset", lambda _: pytest.fail("asked Minari"))
    with pytest.raises(download.DownloadFailed, match="holds other datasets"):
        download.download("far/away/set-v0", root)


def test_what_killed_downloads_left_is_swept(root, online, monkeypatch):
    for name, days in ((".downloading-old", 2), (".downloading-new", 0)):
        (root / name / "far").mkdir(parents=True)
        then = time.time() - days * 24 * 3600
        os.utime(root / name, (then, then))
    monkeypatch.setattr(minari, "download_dataset", make_small)
    download.download("far/away/set-v0", root)
    assert sorted(path.name for path in root.iterdir()) == [".downloading-new", "far"]


@pytest.mark.parametrize("error", [ValueError("no such\n dataset"), OSError("gone")])
def test_a_failed_download_leaves_nothing(root, online, monkeypatch, error):
    def fetch(dataset_id):
        make_small(dataset_id)
        raise error

    monkeypatch.setattr(minari, "download_dataset", fetch)
    with pytest.raises(download.DownloadFailed, match=r"^\w+: (no such dataset|gone)$"):
        download.download("far/away/set-v0", root)
    assert list(root.iterdir()) == []


def test_an_interrupted_download_leaves_nothing(root, online, monkeypatch):
    def fetch(dataset_id):
        make_small(dataset_id)
        raise KeyboardInterrupt

    monkeypatch.setattr(minari, "download_dataset", fetch)
    with pytest.raises(KeyboardInterrupt):
        download.download("far/away/set-v0", root)
    assert list(root.iterdir()) == []
    assert Path(minari.storage.datasets_root_dir.get_dataset_path()) == root


def unreachable(*args, **kwargs):
    raise urllib.error.URLError("Name or service not known")


def hangs(*args, **kwargs):
    time.sleep(1)
    raise OSError("too late")


def speaks_no_http(*args, **kwargs):
    raise http.client.BadStatusLine("SSH-2.0")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (unreachable, "cannot be reached"),
        (hangs, r"did not answer within 0\.2"),
        (speaks_no_http, r"cannot be reached \(SSH-2\.0"),
    ],
)
def test_without_a_network_it_ends_soon_and_quietly(
    root, willing, monkeypatch, capfd, answer, reason
):
    monkeypatch.setattr(download.urllib.request, "urlopen", answer)
    monkeypatch.setattr(download, "REACH_SECONDS", 0.2)
    monkeypatch.setattr(minari, "download_dataset", lambda _: pytest.fail("asked Minari"))
    start = time.monotonic()
    with pytest.raises(download.DownloadFailed, match=reason):
        download.download("far/away/set-v0", root)
    assert time.monotonic() - start < 2
    assert capfd.readouterr() == ("", "")


def test_an_unfriendly_answer_is_an_answer(monkeypatch):
    def refuse(url, timeout):
        raise urllib.error.HTTPError(url, 403, "Forbidden", {}, None)

    monkeypatch.setattr(download.urllib.request, "urlopen", refuse)
    assert download._why_unreachable("https://example.org") is None


def test_a_missing_client_or_offline_mode_is_said(root, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(download.DownloadFailed, match=r"pip install 'minari\[hf\]'"):
        download.download("far/away/set-v0", root)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(download.DownloadFailed, match="HF_HUB_OFFLINE"):
        download.download("far/away/set-v0", root)
