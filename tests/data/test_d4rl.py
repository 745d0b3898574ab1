"""A file of D4RL's is a dataset: D4RL's transitions to the bit, and episodes that end once."""

import h5py
import numpy as np
import pytest
from data_files import (
    HOPPER,
    assert_equal,
    d4rl_arrays,
    d4rl_view,
    official_episodes,
    without,
    write_hdf5,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from minari_datasets import load

from iql_jax.data.config import DataConfig
from iql_jax.data.load import load_dataset
from iql_jax.data.read_d4rl import count_timeouts
from iql_jax.utils.errors import UserError


@pytest.fixture
def load_arrays(tmp_path):
    """Writes a file of this name, and loads it."""

    def load_file(arrays, name=HOPPER, **choices):
        return load(write_hdf5(tmp_path / name, arrays), **choices)

    return load_file


def notes(dataset):
    return " | ".join(dataset.record["notes"])


def lengths(dataset):
    """The episodes' lengths of a dataset that was loaded with next actions."""
    return np.diff(np.flatnonzero(dataset.transitions["next_action_masks"] == 0), prepend=-1)


class TestTransitions:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_they_are_d4rls_to_the_bit(self, load_arrays, dtype):
        arrays = without(d4rl_arrays(dtype=dtype), "next_observations")
        arrays["actions"][7, 1] = 1.0
        view, dataset = d4rl_view(arrays), load_arrays(arrays)
        assert 0 < len(view.rows) < 599
        assert_equal(dataset.transitions, view.arrays())
        assert (dataset.transitions["masks"] == 0).any()
        assert dataset.record["task"] == "hopper-medium-v2"

    def test_flags_and_rewards_may_be_columns(self, load_arrays):
        arrays = without(d4rl_arrays(), "next_observations")
        view = d4rl_view(arrays)
        arrays |= {key: arrays[key][:, None] for key in ("rewards", "terminals", "timeouts")}
        arrays["terminals"] = arrays["terminals"].astype(np.float32)
        assert_equal(load_arrays(arrays).transitions, view.arrays())

    def test_stored_next_observations_are_taken(self, load_arrays):
        arrays = d4rl_arrays()
        view, dataset = d4rl_view(arrays), load_arrays(arrays)
        expected = view.arrays() | {"next_observations": arrays["next_observations"][view.rows]}
        assert_equal(dataset.transitions, expected)
        assert not np.array_equal(expected["next_observations"], view.arrays()["next_observations"])
        assert "those that the file stores" in notes(dataset)

    @pytest.mark.parametrize("stored", [False, True])
    def test_episodes_are_iqls(self, load_arrays, stored):
        arrays = d4rl_arrays()
        expected = official_episodes(d4rl_view(arrays))
        if not stored:
            arrays = without(arrays, "next_observations")
        dataset = load_arrays(arrays, next_actions=True)
        assert lengths(dataset).tolist() == expected
        assert f"{len(expected)} episodes of 1 to" in notes(dataset)

    def test_without_timeouts_d4rls_count_is_repeated_and_true_ends_are_cut(self, load_arrays):
        arrays = without(d4rl_arrays(rows=3500), "next_observations", "timeouts")
        arrays["terminals"] = np.isin(np.arange(3500), [10, 1200, 1201, 2209])
        view = d4rl_view(arrays)
        # The count goes on at 1 after a terminal: 11 + 999 is a limit; then 1200 comes first.
        assert set(range(3499)) - set(view.rows) == {1009, 2200, 3208}
        # True ends: an episode starts at row 11, and lasts until 1010; another from 2210 to 3209.
        # Episodes that start at 1011 and 1202 end at terminals.
        crossing = [1010, 2201, 3209]
        dataset = load_arrays(arrays)
        kept = ~np.isin(view.rows, [1010, 2201, 3209])
        expected = {field: array[kept] for field, array in view.arrays().items()}
        assert_equal(dataset.transitions, expected)
        assert f"{len(crossing)} more are left out" in notes(dataset)
        assert "counted: 1000 steps" in notes(dataset)

    @settings(deadline=None)
    @given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 6))
    def test_the_rows_at_counted_time_limits(self, terminals, limit):
        count = np.zeros((len(terminals), 1), np.float32)
        arrays = {"observations": count, "actions": count, "rewards": count[:, 0]}
        arrays["terminals"] = np.array(terminals)
        kept = ~count_timeouts(arrays["terminals"], limit)
        kept[-1] = False
        assert np.flatnonzero(kept).tolist() == d4rl_view(arrays, limit).rows


class TestEndings:
    def test_a_gap_ends_an_episode_and_a_small_difference_does_not(self, load_arrays):
        arrays = d4rl_arrays(rows=30)
        arrays |= {"terminals": np.zeros(30, bool), "timeouts": np.zeros(30, bool)}
        following = np.concatenate([arrays["observations"][1:], arrays["observations"][:1]])
        following[11] += 1  # A reset that nothing marks.
        following[16:20] += 0.05  # As of an environment that changes a little between steps.
        following[23, :5] *= -1  # A quaternion and its negative are the same rotation.
        dataset = load_arrays(arrays | {"next_observations": following}, next_actions=True)
        assert lengths(dataset).tolist() == [12, 17]
        assert "1 where the next observation is not the following row's" in notes(dataset)
        assert np.array_equal(dataset.transitions["next_observations"][11], following[11])

    @pytest.mark.parametrize("name", ["mine.hdf5", HOPPER])
    def test_terminals_that_are_time_limits(self, load_arrays, name):
        """Three episodes of 50 steps of an unknown task, or of 1,000 of Hopper's."""
        steps = 1000 if name == HOPPER else 50
        arrays = d4rl_arrays(rows=3 * steps) | {"timeouts": np.zeros(3 * steps, bool)}
        arrays = without(arrays, "next_observations")
        arrays["terminals"] = np.arange(3 * steps) % steps == steps - 1
        dataset = load_arrays(arrays, name)
        assert f"3 of 3 terminals end episodes of exactly {steps:,} steps" in notes(dataset)
        assert (dataset.transitions["masks"] == 0).sum() == 2  # The file's last row is left out.
        dataset = load_arrays(arrays, name, terminals_are_time_limits=True)
        assert dataset.size == 3 * (steps - 1)
        assert dataset.transitions["masks"].all()
        assert "taken for time limits" in notes(dataset)


class TestArraysInMemory:
    @pytest.mark.parametrize("flags", ["terminals", "masks"])
    def test_they_are_read_as_a_files(self, load_arrays, flags):
        arrays = d4rl_arrays()
        expected = load_arrays(arrays)
        if flags == "masks":
            arrays["masks"] = 1.0 - arrays.pop("terminals")
        arrays["rewards"] = arrays["rewards"].tolist()
        found = load_dataset(DataConfig(task="hopper-medium-v2"), arrays)
        np.testing.assert_equal(found.transitions, expected.transitions)
        assert found.environment.describe() == expected.environment.describe()

    def test_mistakes_are_named(self):
        for change, message in [
            ({"obs": [1]}, "data has 'obs'; it takes observations"),
            ({"masks": None, "terminals": None}, "data lacks terminals"),
            ({"actions": np.zeros((5, 3))}, "'actions' in data have shape"),
        ]:
            arrays = {**d4rl_arrays(), **change}
            arrays = {key: array for key, array in arrays.items() if array is not None}
            with pytest.raises(UserError, match=message):
                load_dataset(DataConfig(), arrays)


class TestTasks:
    def test_of_an_unknown_task_it_trains_without_evaluation(self, load_arrays):
        dataset = load_arrays(without(d4rl_arrays(), "timeouts"), "mine.h5")
        assert dataset.environment is None
        assert dataset.score_rule.kind == "none"
        assert "names no task of D4RL's" in notes(dataset)
        assert "neither marked nor known" in notes(dataset)

    def test_the_config_names_the_task(self, load_arrays):
        arrays = without(d4rl_arrays(), "timeouts")
        dataset = load_arrays(arrays, "mine.h5", task="hopper-expert-v2")
        assert dataset.environment.describe().startswith("Hopper-v4, 1000 steps at most")
        assert load_arrays(arrays, task="none").environment is None
        with pytest.raises(UserError, match=r"have 11 numbers, but .* kitchen-complete-v0 have 60"):
            load_arrays(arrays, task="kitchen-complete-v0")
        arrays = d4rl_arrays(observation_dim=60, action_dim=9)
        with pytest.raises(UserError, match="600 rows, and D4RL's kitchen-partial has 136,950"):
            load_arrays(arrays, "kitchen_microwave_kettle_light_slider-v0.hdf5")
        assert load_arrays(arrays, task="kitchen").score_rule.ref_max == 4.0
        with pytest.raises(UserError, match="'hoper', no task of D4RL's; they begin with hopper"):
            load_arrays(arrays, task="hoper")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("actions"), "lacks actions"),
        (
            lambda a: a.update(rewards=np.zeros((600, 2), np.float32)),
            "not a number for each",
        ),
        (lambda a: a.update(rewards=np.array([b"x"] * 600)), "type .S1, not a number"),
        (lambda a: a.update(actions=np.zeros((600, 3), int)), "floating-point"),
        (lambda a: a.update(actions=np.zeros(600, np.float32)), "not a vector"),
        (lambda a: a.update(actions=np.zeros((600, 4), np.float32)), "another task's file"),
        (lambda a: a.update(actions=np.zeros((600, 0), np.float32)), "not a vector"),
        (lambda a: a.update(next_observations=np.zeros((600, 9), np.float32)), r"\[600, 9\]"),
        (lambda a: a["observations"].__setitem__((17, 2), np.nan), "observations in or after row"),
        (lambda a: a["rewards"].__setitem__(17, np.inf), "rewards in or after row 17"),
        (lambda a: a.update(timeouts=np.ones(600, bool)), "no transition"),
        (lambda a: a.update({key: a[key][:0] for key in a}), "no rows"),
    ],
)
def test_a_wrong_file(tmp_path, change, message):
    arrays = d4rl_arrays()
    change(arrays)
    with h5py.File(tmp_path / HOPPER, "w") as file:
        for key, array in arrays.items():
            file[key] = array
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path / HOPPER)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("link", "message"),
    [
        (h5py.SoftLink("/nowhere"), "cannot be read"),
        (h5py.SoftLink("/timeouts"), "cannot be read"),
        (h5py.ExternalLink("other.hdf5", "/timeouts"), "lies in another file"),
        (None, "lies in another file"),
    ],
)
def test_a_link_is_not_taken_for_nothing_and_leads_nowhere_else(tmp_path, link, message):
    """Without its ``timeouts`` a file would have other transitions."""
    write_hdf5(tmp_path / "other.hdf5", d4rl_arrays())
    path = write_hdf5(tmp_path / HOPPER, without(d4rl_arrays(), "timeouts"))
    with h5py.File(path, "a") as file:
        if link is None:
            file.create_dataset("timeouts", (600,), bool, external=str(tmp_path / "other.hdf5"))
        else:
            file["timeouts"] = link
    with pytest.raises(UserError, match=message):
        load(path)


def test_no_file_of_the_format(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        load(tmp_path / "none.hdf5")
    (tmp_path / "text.hdf5").write_text("observations")
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path / "text.hdf5")
    path = write_hdf5(tmp_path / "cut.hdf5", d4rl_arrays())
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(UserError, match="damaged"):
        load(path)
    path = write_hdf5(tmp_path / "huge.hdf5", without(d4rl_arrays(), "observations"))
    with h5py.File(path, "a") as file:  # A few kilobytes.
        file.create_dataset("observations", (10**10, 11), np.float32, chunks=True)
    with pytest.raises(UserError, match="for each of 10000000000 rows"):
        load(path)
