"""D4RL's files become Minari datasets that hold D4RL's transitions, to the bit."""

import os
import signal

import h5py
import minari
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from import_files import (
    HOPPER,
    assert_equal,
    d4rl_arrays,
    d4rl_view,
    import_arrays,
    load,
    official_episodes,
    without,
    write_hdf5,
)
from iql_jax.data.imports import writing
from iql_jax.data.imports.d4rl_view import kept_rows

from iql_jax.data.episodes import read_episodes
from iql_jax.datasets import main

pytestmark = pytest.mark.usefixtures("data_folders")


class TestTransitions:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_they_are_d4rls_to_the_bit(self, tmp_path, dtype):
        arrays = without(d4rl_arrays(dtype=dtype), "next_observations")
        arrays["actions"][7, 1] = 1.0
        import_arrays(tmp_path, arrays)
        view, dataset = d4rl_view(arrays), load()
        assert 0 < len(view.rows) < 599
        assert_equal(dataset.transitions, view.arrays())
        assert (dataset.transitions.masks == 0).any()

    def test_without_timeouts_d4rls_count_is_repeated(self, tmp_path, capsys):
        arrays = without(d4rl_arrays(rows=3500), "next_observations", "timeouts")
        arrays["terminals"] = np.isin(np.arange(3500), [10, 1200, 1201, 2209])
        view = d4rl_view(arrays)
        # The count goes on at 1 after a terminal: 11 + 999 is a limit; then 1200 comes first.
        assert set(range(3499)) - set(view.rows) == {1009, 2200, 3208}
        import_arrays(tmp_path, arrays)
        assert_equal(load().transitions, view.arrays())
        assert "1000 steps (D4RL's)" in capsys.readouterr().err

    def test_stored_next_observations_are_taken(self, tmp_path):
        arrays = d4rl_arrays()
        import_arrays(tmp_path, arrays)
        view = d4rl_view(arrays)
        expected = view.arrays() | {"next_observations": arrays["next_observations"][view.rows]}
        assert_equal(load().transitions, expected)
        ends = np.array(view.masks) == 0
        assert not np.array_equal(expected["next_observations"], view.arrays()["next_observations"])
        assert np.array_equal(
            expected["next_observations"][~ends], view.arrays()["next_observations"][~ends]
        )

    def test_an_unmarked_jump_ends_an_episode(self, tmp_path):
        arrays = d4rl_arrays(rows=30)
        arrays |= {"terminals": np.zeros(30, bool), "timeouts": np.zeros(30, bool)}
        arrays["next_observations"] = np.concatenate(
            [arrays["observations"][1:], arrays["observations"][:1]]
        )
        arrays["next_observations"][11] += 1
        arrays["next_observations"][20, 0] += np.float32(3e-7)  # Rounding is no jump.
        episodes = read_episodes(import_arrays(tmp_path, arrays), progress=False)
        assert episodes.lengths.tolist() == [12, 17]
        assert not episodes.terminations.any()
        assert np.flatnonzero(episodes.truncations).tolist() == [11, 28]
        assert np.array_equal(
            load().transitions.next_observations[11], arrays["next_observations"][11]
        )

    def test_timeouts_can_be_kept(self, tmp_path):
        arrays = d4rl_arrays()
        import_arrays(tmp_path, arrays, keep_timeouts=True)
        expected = without(arrays, "terminals", "timeouts")
        expected["masks"] = 1 - arrays["terminals"].astype(np.float32)
        assert_equal(load().transitions, expected)

    def test_flags_and_rewards_may_be_columns(self, tmp_path):
        arrays = without(d4rl_arrays(), "next_observations")
        view = d4rl_view(arrays)
        arrays |= {key: arrays[key][:, None] for key in ("rewards", "terminals", "timeouts")}
        arrays["terminals"] = arrays["terminals"].astype(np.float32)
        import_arrays(tmp_path, arrays)
        assert_equal(load().transitions, view.arrays())

    @pytest.mark.parametrize("stored", [False, True])
    def test_episodes_are_iqls(self, tmp_path, stored):
        arrays = d4rl_arrays()
        expected = official_episodes(d4rl_view(arrays))
        if not stored:
            arrays = without(arrays, "next_observations")
        episodes = read_episodes(import_arrays(tmp_path, arrays), progress=False)
        assert episodes.lengths.tolist() == expected
        last = np.cumsum(expected) - 1
        inside = np.setdiff1d(np.arange(sum(expected)), last)
        assert not (episodes.terminations | episodes.truncations)[inside].any()
        assert (episodes.terminations ^ episodes.truncations)[last].all()

    @settings(deadline=None)
    @given(
        st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40),
        st.booleans(),
        st.integers(1, 6),
    )
    def test_the_rows_that_are_kept(self, flags, has_timeouts, time_limit):
        terminals, timeouts = np.array(flags).T
        count = np.zeros((len(flags), 1), np.float32)
        arrays = {"observations": count, "actions": count, "rewards": count[:, 0]}
        arrays["terminals"] = terminals
        if has_timeouts:
            arrays["timeouts"] = timeouts
        kept = kept_rows(terminals, timeouts if has_timeouts else None, time_limit)
        assert np.flatnonzero(kept).tolist() == d4rl_view(arrays, time_limit).rows


class TestFailures:
    def run(self, capsys, *words):
        assert main(["import-d4rl", *map(str, words), "--no-progress"]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    @pytest.fixture
    def nothing_is_left(self, data_folders):
        yield
        assert [path for path in data_folders.rglob("*") if path.is_file()] == []

    @pytest.mark.usefixtures("nothing_is_left")
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda a: a.pop("actions"), "lacks actions, it has"),
            (lambda a: a.update(rewards=a["rewards"][:-1]), "'rewards'"),
            (lambda a: a.update(rewards=np.zeros((600, 2), np.float32)), "not one number a row"),
            (lambda a: a.update(actions=np.zeros((600, 3), int)), "not floating-point"),
            (lambda a: a.update(actions=np.zeros(600, np.float32)), "not one vector a row"),
            (lambda a: a.update(actions=np.zeros((600, 4), np.float32)), "names another task"),
            (lambda a: a.update(next_observations=np.zeros((600, 9), np.float32)), "[600, 9]"),
            (lambda a: a["observations"].__setitem__((17, 2), np.nan), "in row 17"),
            (lambda a: a.update(timeouts=np.ones(600, bool)), "no transition"),
            (lambda a: a.update({key: a[key][:0] for key in a}), "no rows"),
        ],
    )
    def test_a_wrong_file(self, tmp_path, capsys, change, message):
        arrays = d4rl_arrays()
        change(arrays)
        with h5py.File(tmp_path / "file.hdf5", "w") as file:
            for key, array in arrays.items():
                file[key] = array
        assert message in self.run(capsys, tmp_path / "file.hdf5", "--id", HOPPER)

    @pytest.mark.usefixtures("nothing_is_left")
    def test_no_file_of_the_format(self, tmp_path, capsys):
        assert "there is no file" in self.run(capsys, tmp_path / "none.hdf5", "--id", HOPPER)
        (tmp_path / "text.hdf5").write_text("observations")
        assert "cannot be opened" in self.run(capsys, tmp_path / "text.hdf5", "--id", HOPPER)
        path = write_hdf5(tmp_path / "cut.hdf5", d4rl_arrays())
        path.write_bytes(path.read_bytes()[:-3000])
        assert "damaged" in self.run(capsys, path, "--id", HOPPER)

    @pytest.mark.usefixtures("nothing_is_left")
    @pytest.mark.parametrize(
        ("dataset_id", "message"),
        [("hopper", "is no dataset id"), ("iql/hopper/medium-v2", "the package's own")],
    )
    def test_a_wrong_id(self, tmp_path, capsys, dataset_id, message):
        path = write_hdf5(tmp_path / "file.hdf5", d4rl_arrays())
        assert message in self.run(capsys, path, "--id", dataset_id)

    @pytest.mark.usefixtures("nothing_is_left")
    def test_options_that_do_not_fit(self, tmp_path, capsys):
        arrays = without(d4rl_arrays(), "next_observations", "timeouts")
        path = write_hdf5(tmp_path / "file.hdf5", arrays)
        words = (path, "--id", "mine/robot-v0")
        assert "--time-limit" in self.run(capsys, *words)
        assert "--keep-timeouts" in self.run(capsys, *words, "--keep-timeouts")
        assert "at least 1" in self.run(capsys, *words, "--time-limit", 0)
        path = write_hdf5(tmp_path / "stored.hdf5", without(d4rl_arrays(), "timeouts"))
        both = ("--keep-timeouts", "--time-limit", 40)
        assert "give one of them" in self.run(capsys, path, "--id", HOPPER, *both)
        path = write_hdf5(tmp_path / "marked.hdf5", d4rl_arrays())
        assert "without 'timeouts'" in self.run(capsys, path, "--id", HOPPER, "--time-limit", 40)

    @pytest.mark.usefixtures("nothing_is_left")
    def test_a_full_disk(self, tmp_path, capsys, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.posix_fallocate", full, raising=False)
        path = write_hdf5(tmp_path / "file.hdf5", d4rl_arrays())
        assert main(["import-d4rl", str(path), "--id", HOPPER, "--no-progress"]) == 1
        assert "no space left" in capsys.readouterr().err.splitlines()[-1]

    def test_an_id_that_exists(self, tmp_path, capsys):
        path = write_hdf5(tmp_path / "file.hdf5", d4rl_arrays())
        assert main(["import-d4rl", str(path), "--id", HOPPER]) == 0
        assert f"{HOPPER} is imported" in capsys.readouterr().err
        assert "--force replaces it" in self.run(capsys, path, "--id", HOPPER)
        words = [
            "import-d4rl",
            str(path),
            "--id",
            HOPPER,
            "--force",
            "--keep-timeouts",
            "--no-progress",
        ]
        assert main(words) == 0
        assert load().transitions.size == 600

    @pytest.mark.usefixtures("nothing_is_left")
    @pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal(self, tmp_path, capsys, monkeypatch, signum, status):
        path = write_hdf5(tmp_path / "file.hdf5", d4rl_arrays())
        monkeypatch.setattr(writing, "_BATCH_STEPS", 40)
        write, written = writing.add_episodes, []

        def interrupted(storage, episodes):
            write(storage, episodes)
            written.append(len(episodes))
            os.kill(os.getpid(), signum)

        monkeypatch.setattr(writing, "add_episodes", interrupted)
        assert main(["import-d4rl", str(path), "--id", HOPPER, "--no-progress"]) == status
        assert len(written) == 1
        assert f"{HOPPER} is not imported" in capsys.readouterr().err

    def test_a_folder_of_other_datasets_is_left_alone(self, tmp_path, capsys, data_folders):
        import_arrays(tmp_path, d4rl_arrays(), "mine/hopper-v2/medium-v0")
        inside = data_folders / "mine" / "hopper-v2" / "medium-v0" / "data" / "metadata.json"
        path = tmp_path / "file.hdf5"
        capsys.readouterr()
        for words in ((), ("--force",)):
            error = self.run(capsys, path, "--id", "mine/hopper-v2", *words)
            assert "holds other datasets" in error
        error = self.run(capsys, path, "--id", "mine/hopper-v2/medium-v0/again-v0")
        assert "would lie in the dataset" in error
        assert inside.is_file()

    def test_minari_opens_it(self, tmp_path):
        import_arrays(tmp_path, d4rl_arrays())
        assert minari.load_dataset(HOPPER).spec.dataset_id == HOPPER
        assert list(minari.list_local_datasets(compatible_minari_version=True)) == [HOPPER]

    def test_a_time_limit_can_be_given(self, tmp_path, capsys):
        arrays = without(d4rl_arrays(), "next_observations", "timeouts")
        path = write_hdf5(tmp_path / "file.hdf5", arrays)
        assert main(["import-d4rl", str(path), "--id", "mine/robot-v0", "--time-limit", "40"]) == 0
        assert "time limits are counted, 40 steps (--time-limit)" in capsys.readouterr().err
        assert_equal(load("mine/robot-v0").transitions, d4rl_view(arrays, 40).arrays())
