"""From the name of a dataset to data on this disk."""

import re

import pytest
from minari_datasets import box, change_metadata, coded_episodes, write_dataset

from iql_jax.data.download import DownloadFailed
from iql_jax.generation import provide as module
from iql_jax.generation.ant_controller import packaged_controller_digest
from iql_jax.generation.provide import Provided, provide
from iql_jax.utils.errors import UserError

GENERATED = "iql/pointmaze/umaze-v0"
WANTED = "D4RL/pointmaze/umaze-v2"  # The dataset that GENERATED replaces.


def write_small(dataset_id, root=None, progress=False):
    return write_dataset(dataset_id, coded_episodes(), box(4))


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def downloads(monkeypatch):
    """The ids whose download was tried; each fails."""
    tried = []

    def fail(dataset_id, root):
        tried.append(dataset_id)
        raise DownloadFailed("no network today")

    monkeypatch.setattr(module, "download", fail)
    return tried


@pytest.fixture
def generated(monkeypatch):
    """The ids that were generated, in no time."""
    ids = []

    def generate(dataset_id, *, progress):
        ids.append(dataset_id)
        write_small(dataset_id)

    monkeypatch.setattr(module, "generate", generate)
    return ids


def test_local_data(root, downloads, capsys):
    write_small("lab/hand/door-v3")
    assert provide("lab/hand/door-v3") == Provided(*["lab/hand/door-v3"] * 2, "local")
    path = str(root / "hopper.hdf5")
    with pytest.raises(UserError, match=r"hopper.hdf5.*no such file"):
        provide(path)
    (root / "hopper.hdf5").touch()
    assert provide(path) == Provided(path, path, "file")
    assert (downloads, capsys.readouterr().err) == ([], "")


def test_a_download(monkeypatch, capsys):
    monkeypatch.setattr(module, "download", write_small)
    assert provide(WANTED) == Provided(WANTED, WANTED, "downloaded")
    assert f"{WANTED} is downloaded" in capsys.readouterr().err
    assert provide(WANTED).origin == "local"


def test_a_generated_counterpart_replaces_it_loudly(downloads, generated, capsys):
    found = provide(WANTED, fallback="generate")
    assert (found.source, found.requested, found.origin) == (GENERATED, WANTED, "generated")
    assert f"replaces {WANTED}" in found.notes[0]
    assert re.search("dataset_fallback=generate.* no network today", found.notes[-1])
    assert (downloads, generated) == ([WANTED], [GENERATED])
    assert f"USING {GENERATED} INSTEAD" in capsys.readouterr().err
    provide(WANTED, fallback="generate")
    assert generated == [GENERATED]  # Once.


@pytest.mark.parametrize(
    ("fallback", "terminals"), [("auto", {0, 1}), ("auto", {1, 2}), ("fail", {0, 2})]
)
def test_no_other_data_unattended(downloads, generated, monkeypatch, fallback, terminals):
    write_small(GENERATED)  # Not even those that are here.
    monkeypatch.setattr("os.isatty", {0, 2}.__contains__)
    assert provide(WANTED).source == GENERATED
    monkeypatch.setattr("os.isatty", terminals.__contains__)
    with pytest.raises(UserError, match=r"no network today.*dataset_fallback=generate"):
        provide(WANTED, fallback=fallback)


def test_a_run_resumes_with_the_dataset_that_it_started_with(downloads, generated):
    with pytest.raises(UserError, match=f"{WANTED} is not in .* no network today"):
        provide(WANTED, started_with=WANTED)
    assert generated == []
    write_small(WANTED)
    assert provide(WANTED).source == WANTED
    assert provide(WANTED, started_with=GENERATED, fallback="fail").source == GENERATED


def test_generated_datasets_are_never_downloaded(downloads, generated):
    assert provide(GENERATED).origin == "generated"
    with pytest.raises(UserError, match=rf"iql/pointmaze/umase-v0.*Did you mean {GENERATED}"):
        provide("iql/pointmaze/umase-v0")
    assert (downloads, generated) == ([], [GENERATED])


def test_an_unknown_id_names_others(downloads):
    write_small("lab/hand/door-v3")
    with pytest.raises(UserError, match=r"no network today\. Did you mean lab/hand/door-v3"):
        provide("lab/hand/doors-v3")
    with pytest.raises(UserError, match=r"D4RL/door/human-v2.*no network today"):  # No counterpart.
        provide("D4RL/door/human-v2")


@pytest.mark.parametrize("name", ["iql/pointmaze/umaze", "../../etc-v0", "/etc/x-v0", "", "a b-v0"])
def test_names_that_are_no_id(name):
    with pytest.raises(UserError, match=r"no dataset id.*with the version"):
        provide(name)


@pytest.mark.parametrize(
    ("collection", "note"),
    [
        ({"seed": 0, "controller": packaged_controller_digest()}, None),
        ({"seed": 3}, "with seed 3 instead of 0"),
        ({"controller": "0123"}, "with controller 0123"),
    ],
)
def test_notes_say_how_generated_data_differ_from_the_usual_ones(collection, note):
    folder = write_small("iql/antmaze/umaze-v0")
    change_metadata(folder, collection=collection)
    size, *more = provide("iql/antmaze/umaze-v0").notes
    assert "transitions 9 instead of 1000000" in size
    assert (note in more[0]) if note else (more == [])
