"""Datasets on disk: what is written, and what remains where that fails."""

import contextlib
import errno
import os
import pathlib
import resource
import sys
import tempfile

import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from iql_jax.generation import catalog, point_tasks, pointmaze, storage
from iql_jax.generation.workspace import open_workspace
from iql_jax.utils.errors import UserError

ID = "iql/pointmaze/umaze-v0"

pytestmark = pytest.mark.usefixtures("data_folders")


class TestStorage:
    @contextlib.contextmanager
    def _new(self, dataset_id="test/it-v0", expected_bytes=1000):
        env = point_tasks.build_environment("umaze")
        with (
            open_workspace(dataset_id, "digest") as workspace,
            storage.new_dataset(
                dataset_id,
                workspace.folder,
                env_spec=point_tasks.collecting_spec("umaze"),
                observation_space=env.observation_space,
                action_space=env.action_space,
                expected_bytes=expected_bytes,
            ) as data,
        ):
            yield data

    def _leftovers(self, folder):
        return [path for path in folder.rglob("*") if path.is_file()]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
    def test_nothing_remains_of_a_dataset_that_was_just_begun(self, error, data_folders):
        def interrupted():
            with self._new() as data:
                (data.data_path / "half").write_text("made")
                raise error

        with pytest.raises(error):
            interrupted()
        assert self._leftovers(data_folders) == []

    def test_an_interrupted_replacement_leaves_the_old_one(self, monkeypatch):
        catalog.make(ID, steps=300, progress=False, score_episodes=1)
        monkeypatch.setattr(pointmaze, "score_run", lambda _: sys.exit(1))
        with pytest.raises(SystemExit):
            catalog.make(ID, steps=400, progress=False, force=True, score_episodes=1)
        assert minari.load_dataset(ID).total_steps == 300

    def test_another_disk_that_is_full_is_not_taken_for_this_one(self, tmp_path):
        elsewhere = str(tmp_path / "elsewhere" / "point.xml")
        with pytest.raises(OSError, match="No space left") as caught, self._new():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), elsewhere)
        assert caught.value.filename == elsewhere

    def test_a_folder_of_other_datasets_is_left_alone(self, data_folders):
        with self._new("test/it-v0/inner-v0"):
            pass
        with (
            pytest.raises(UserError, match=r"test/it-v0 holds other datasets, .*: choose another"),
            self._new("test/it-v0"),
        ):
            pytest.fail("that would be the end of the other one")
        assert list(minari.list_local_datasets()) == ["test/it-v0/inner-v0"]

    def test_no_dataset_lies_in_another(self):
        with self._new("test/it-v0"):
            pass
        with (
            pytest.raises(UserError, match=r"would lie in the dataset .*test/it-v0"),
            self._new("test/it-v0/more/inner-v0"),
        ):
            pytest.fail("nobody would find it")

    def test_no_part_of_an_id_looks_like_a_datasets_data(self):
        with (
            pytest.raises(UserError, match="has a part named data"),
            self._new("test/data/it-v0"),
        ):
            pytest.fail("test would pass for a broken dataset")

    def test_an_empty_folder_gives_way(self, data_folders):
        (data_folders / "test" / "it-v0").mkdir(parents=True)
        with self._new("test/it-v0"):
            pass
        assert list(minari.list_local_datasets()) == ["test/it-v0"]

    def test_another_disk_is_said_before_anything_is_begun(self, data_folders):
        memory = pathlib.Path("/dev/shm")
        data_folders.mkdir()
        if not memory.is_dir() or memory.stat().st_dev == data_folders.stat().st_dev:
            pytest.skip("there is one disk only")
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            (data_folders / "test").symlink_to(folder)
            with (
                pytest.raises(UserError, match=rf"from {data_folders}, .* to .*another disk"),
                self._new("test/it-v0"),
            ):
                pytest.fail("it could not be put in place")

    def test_a_folder_that_may_not_be_written_is_said_before_too(self, data_folders, monkeypatch):
        (data_folders / "test").mkdir(parents=True)
        # Not by its mode, which does not bind the superuser.
        monkeypatch.setattr(os, "access", lambda path, mode: path != data_folders / "test")
        with (
            pytest.raises(UserError, match=r"cannot be put in .*test: the folder is not writable"),
            self._new("test/it-v0"),
        ):
            pytest.fail("it could not be put in place")

    def test_a_move_that_fails_is_said(self, data_folders, monkeypatch):
        def fail(source, target):
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        def begun():
            with self._new("test/it-v0"):
                monkeypatch.setattr(os, "replace", fail)

        message = rf"from {data_folders}/.* to {data_folders}/test/it-v0: Invalid"
        with pytest.raises(UserError, match=message):
            begun()

    def test_no_room_is_said_before_anything_is_begun(self, data_folders):
        def begun():
            with self._new(expected_bytes=10**18):
                pytest.fail("there is no such room")

        with pytest.raises(UserError, match=r"no space left to make the dataset in .* MB more"):
            begun()
        assert self._leftovers(data_folders) == []

    def test_no_room_for_more_episodes(self, data_folders):
        episode = EpisodeBuffer(
            observations={"observation": np.zeros((200_001, 4))},
            actions=np.zeros((200_000, 2), np.float32),
            rewards=np.zeros(200_000),
            terminations=np.zeros(200_000, bool),
            truncations=np.zeros(200_000, bool),
        )

        def begun():
            with self._new() as data:
                storage.add_episodes(data, [episode])

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, hard))
        try:
            with pytest.raises(UserError, match=r"MB more are needed \(File too large"):
                begun()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert self._leftovers(data_folders) == []

    def test_a_folder_that_cannot_be_made(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file"))

        def begun():
            with self._new():
                pytest.fail("this is no folder")

        with pytest.raises(UserError, match="cannot write to Minari's folder"):
            begun()

    def test_the_bound_on_the_size_holds(self):
        shard = pointmaze.Shard("umaze", seed=0, index=0, steps=3000)
        episodes = pointmaze.cut_episodes(pointmaze.collect_shard(shard))
        with self._new() as data:
            storage.add_episodes(data, episodes)
            size = (data.data_path / "main_data.hdf5").stat().st_size
        assert size <= sum(map(storage._stored_bytes, episodes)) <= 2 * size
        assert size <= 3000 * pointmaze._FILE_BYTES
