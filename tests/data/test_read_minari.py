"""Reading: every number at its place, and every defect named."""

import shutil

import gymnasium as gym
import h5py
import numpy as np
import pytest
from minari_datasets import (
    box,
    change_metadata,
    code,
    coded_episodes,
    episode_buffer,
    spec_json,
    write_dataset,
)

from iql_jax.data.metadata import read_metadata
from iql_jax.data.read_minari import read_episodes
from iql_jax.utils.errors import UserError

LENGTHS = (3, 1, 5)
OBSERVED = '{"type": "Box", "dtype": "float64", "shape": [%s]}'


@pytest.fixture(autouse=True)
def _datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


@pytest.fixture
def folder():
    return write_dataset("test/box-v0", coded_episodes(LENGTHS), box(4))


@pytest.fixture
def file(folder):
    return folder / "data" / "main_data.hdf5"


def read(folder):
    return read_episodes(folder, read_metadata(folder), progress=False)


def dict_episode(episode, steps):
    observations = {
        "state": code(1, episode, steps + 1, 3),
        "goals": {"far": code(2, episode, steps + 1, 2), "near": code(3, episode, steps + 1, 1)},
    }
    return episode_buffer(episode, steps, observations)


DICT_SPACE = gym.spaces.Dict(
    {"state": box(3), "goals": gym.spaces.Dict({"far": box(2), "near": box(1)})}
)


def test_nested_dict_observations():
    episodes = read(
        write_dataset("test/dict-v0", [dict_episode(0, 2), dict_episode(1, 4)], DICT_SPACE)
    )
    assert episodes.is_dict
    assert set(episodes.observations) == {"state", "goals/far", "goals/near"}
    for field, (key, width) in enumerate({"state": 3, "goals/far": 2, "goals/near": 1}.items()):
        expected = np.concatenate([code(field + 1, 0, 3, width), code(field + 1, 1, 5, width)])
        np.testing.assert_array_equal(episodes.observations[key], expected)


def test_more_than_ten_episodes_stay_in_order():
    # As text, episode_10 comes before episode_2.
    lengths = [1 + e % 3 for e in range(12)]
    episodes = read(write_dataset("test/many-v0", coded_episodes(lengths), box(4)))
    np.testing.assert_array_equal(episodes.lengths, lengths)
    first = episodes.observations["observation"][episodes.rows[episodes.first_steps()], 0]
    np.testing.assert_array_equal(first, 1e6 + 1e4 * np.arange(12))


def test_the_fingerprint_is_of_the_content(folder, file):
    before = read(folder).fingerprint()
    other = write_dataset("test/copy-v0", coded_episodes(LENGTHS), box(4))
    assert read(other).fingerprint() == before
    with h5py.File(file, "a") as content:
        content["episode_2/rewards"][1] += 1
    assert read(folder).fingerprint() != before


def test_missing_spaces_never_build_the_environment(folder):
    # Minari's own reader would import this entry point.
    spec = spec_json("stranger_module:Env", "Stranger-v0")
    change_metadata(folder, observation_space=None, action_space=None, env_spec=spec)
    np.testing.assert_array_equal(read(folder).lengths, LENGTHS)


def assert_refused(folder, message):
    with pytest.raises(UserError, match=message) as error:
        read(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"metadata\.json cannot be read .*Minari before 0\.5 .*move its folder away"),
        ("{", r"metadata\.json cannot be read"),
        ("{}", "holds None as its dataset_id"),
        ("[]", "no object"),
        (
            '{"dataset_id": "a/b-v0", "total_episodes": 3, "total_steps": 9, "env_spec": [7]}',
            r"holds \[7\] as its env_spec",
        ),
    ],
)
def test_missing_or_broken_metadata(folder, text, message):
    metadata = folder / "data" / "metadata.json"
    metadata.unlink()
    if text is not None:
        metadata.write_text(text)
    assert_refused(folder, message)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"data_format": "arrow"}, "arrow format; write it in .* hdf5"),
        ({"total_steps": 8}, "promise 8 transitions, there are more"),
        ({"total_steps": 10}, "promise 10 transitions, there are 9"),
        ({"total_steps": 2**48}, "too little memory"),
        ({"total_episodes": 0}, "test/box-v0 has no episodes"),
        ({"total_episodes": 4}, "episode 3.* cannot be read"),
        (
            {"action_space": '{"type": "Discrete", "n": 7}'},
            "actions have .*float32; rows of 1",
        ),
        ({"action_space": '{"type": "MultiDiscrete", "nvec": [2]}'}, "only Box and Discrete"),
        *(
            ({key: entry}, f"as its {key}: move its folder away")
            for key, entry in (
                ("dataset_id", "a\nb"),
                ("dataset_id", ""),
                ("total_episodes", "3"),
                ("total_episodes", 3.0),
                ("total_steps", True),
                ("ref_min_score", float("nan")),
                ("ref_max_score", float("inf")),
                ("ref_max_score", False),
                ("requirements", "numpy"),
                ("requirements", [["numpy"]]),
                ("collection", []),
            )
        ),
        *(
            ({"observation_space": space}, message)
            for space, message in (
                ("{", "observation space of test/box-v0 cannot be read"),
                (
                    '{"type": "Dict", "subspaces": [4]}',
                    "the observation space of test/box-v0 cannot be read",
                ),
                (OBSERVED % 5, r"observations have shape \[4, 4\] and type float64; rows of 5"),
                (
                    OBSERVED % "64, 64, 3",
                    r"observations of shape \[64, 64, 3\]; only vectors",
                ),
                (OBSERVED % 0, r"observations of shape \[0\]; only vectors"),
                ('{"type": "Discrete", "n": 500}', "'Discrete' observations.* as one-hot"),
                ('{"type": "Tuple", "subspaces": []}', "'Tuple' observations"),
            )
        ),
        *(
            ({"action_space": space}, "the action space of test/box-v0 cannot be read")
            for space in (
                '{"type": "Box", "low": [-1], "high": [1, 1]}',
                '{"type": "Box", "shape": [1], "low": ["x"], "high": [1]}',
                '{"type": "Box", "shape": [1]}',
                '{"type": "Discrete"}',
                '{"type": "Discrete", "n": Infinity}',
                '{"type": "Discrete", "n": 1000000000}',
                '{"type": "Discrete", "n": 2, "start": 0.5}',
                "[3]",
                "{",
            )
        ),
    ],
)
def test_metadata_that_do_not_fit(folder, entries, message):
    change_metadata(folder, **entries)
    assert_refused(folder, message)


def test_a_truncated_or_missing_file(folder, file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert_refused(folder, r"test/box-v0.*main_data\.hdf5.*truncated.*again")
    file.unlink()
    assert_refused(folder, r"main_data\.hdf5 cannot be read .*FileNotFound")


@pytest.mark.parametrize(
    ("path", "index", "value", "message"),
    [
        ("observations", (3, 1), np.nan, r"observations holds nan at step 3 \(component 1\)"),
        ("observations", (5, 0), 1e300, "observations holds inf at step 5"),
        ("rewards", 4, -np.inf, "rewards holds -inf at step 4"),
        ("actions", (0, 1), np.nan, "actions holds nan at step 0"),
    ],
)
def test_numbers_that_are_not_finite(folder, file, path, index, value, message):
    with h5py.File(file, "a") as content:
        content[f"episode_2/{path}"][index] = value
    assert_refused(folder, f"test/box-v0: episode 2, {message}")


@pytest.mark.parametrize(
    ("field", "array", "message"),
    [
        ("observations", np.zeros((5, 4)), r"episode 2, observations .*\[5, 4\] for 5 rewards"),
        ("observations", np.zeros((6, 3)), r"observations .*\[6, 3\] for 5"),
        ("observations", np.zeros((6, 8, 8), np.uint8), r"\[6, 8, 8\] for 5"),
        ("actions", np.zeros((6, 2), np.float32), r"actions .*\[6, 2\] for 5"),
        ("actions", np.arange(5), "actions have shape .* int64; rows of 2"),
        ("terminations", np.zeros(4, bool), r"terminations .*\[4\] for 5"),
        ("rewards", np.zeros(0), r"episode 2, rewards .*\[0\] for 0"),
        ("rewards", np.zeros((5, 2)), r"rewards .*\[5, 2\] for 5"),
        ("rewards", None, "episode 2, rewards cannot be read"),
    ],
)
def test_arrays_that_do_not_fit(folder, file, field, array, message):
    with h5py.File(file, "a") as content:
        del content[f"episode_2/{field}"]
        if array is not None:
            content[f"episode_2/{field}"] = array
    if field == "actions" and array.dtype != np.float32:  # Types are those of the first episode.
        with h5py.File(file, "a") as content:
            del content["episode_0/actions"]
            content["episode_0/actions"] = array[:3]
    assert_refused(folder, message)


@pytest.fixture
def nested(tmp_path):
    """The file of a dataset of Dicts, and beside the datasets' folder and in it the same again."""
    episodes = [dict_episode(0, 2), dict_episode(1, 4)]
    folders = [write_dataset(f"test/{name}-v0", episodes, DICT_SPACE) for name in ("dict", "other")]
    paths = [folder / "data" / "main_data.hdf5" for folder in folders]
    shutil.copy(paths[1], tmp_path.parent / "outside.hdf5")
    (tmp_path.parent / "secret").write_bytes(bytes(40))
    return folders[0], *paths


@pytest.mark.parametrize(
    ("path", "entry", "message"),
    [
        ("episode_1/rewards", h5py.SoftLink("/nowhere"), "episode 1, rewards cannot be read"),
        ("episode_1/rewards", h5py.SoftLink("/episode_1/rewards"), "too many links"),
        ("episode_0/observations/state", h5py.SoftLink("/nowhere"), "episode 0, .*cannot be read"),
        ("episode_0/observations/goals", h5py.SoftLink("/episode_0"), "recursion"),
        ("episode_0/observations/goals/near", None, "observations/state'\\], but its spaces have"),
        ("episode_1/observations/goals/near", None, "episode 1, observations/goals/near cannot"),
        ("episode_0/observations/\x1b[2J", (), r"\\x1b.* is no name"),
        ("episode_0/observations", (), "but its spaces have"),
        ("episode_1/rewards", h5py.ExternalLink("../../../../outside.hdf5", "{}"), "another file"),
        ("episode_1", h5py.ExternalLink("../../../../outside.hdf5", "{}"), "another file"),
        ("episode_1/rewards", {"shape": (4,), "external": "../secret"}, "another file"),
        ("episode_1/rewards", {"shape": (10**12,), "chunks": (10**3,)}, "there are more"),
        ("episode_1/actions", {"shape": (10**12, 2)}, r"1000000000000, 2\] for 4 rewards"),
        ("episode_0/actions", {"shape": (2, 0), "dtype": np.float32}, "rows of 2 numbers"),
        ("episode_1/terminations", {"shape": (4,), "dtype": "S1"}, "terminations cannot be read"),
    ],
)
def test_what_an_hdf5_file_may_hold_in_place_of_an_array(nested, monkeypatch, path, entry, message):
    folder, file, _ = nested
    monkeypatch.chdir(file.parents[3])
    with h5py.File(file, "a") as content:
        content.pop(path, None)
        if isinstance(entry, dict):
            content.create_dataset(path, **{"dtype": np.float64, **entry})
        elif isinstance(entry, h5py.ExternalLink):
            content[path] = h5py.ExternalLink(entry.filename, path)
        elif entry == ():
            content.create_group(path)
        elif entry is not None:
            content[path] = entry
    assert_refused(folder, message)


def test_numbers_that_lie_in_other_files_are_read_there_or_not_at_all(nested):
    folder, file, other = nested
    before = read(folder)
    with h5py.File(file, "a") as content:
        content.move("episode_0/observations/state", "moved")
        content["episode_0/observations/state"] = h5py.SoftLink("/moved")
        del content["episode_1/rewards"]
        content["episode_1/rewards"] = h5py.ExternalLink(str(other), "episode_1/rewards")
    assert read(folder).fingerprint() == before.fingerprint()
    with h5py.File(other, "a") as content:
        content["episode_1/rewards"][0] += 1
    assert read(folder).fingerprint() != before.fingerprint()
    virtual = h5py.VirtualLayout((4,), np.float64)
    virtual[:] = h5py.VirtualSource(str(other), "episode_1/rewards", (4,))
    with h5py.File(file, "a") as content:
        del content["episode_1/rewards"]
        content.create_virtual_dataset("episode_1/rewards", virtual)
    assert_refused(folder, "lies in another file")


def test_discrete_actions_are_read_as_they_are(folder, file):
    change_metadata(folder, action_space='{"type": "Discrete", "n": 7}')
    with h5py.File(file, "a") as content:
        for e, steps in enumerate(LENGTHS):
            del content[f"episode_{e}/actions"]
            content[f"episode_{e}/actions"] = np.arange(steps) + e
    expected = np.concatenate([np.arange(steps) + e for e, steps in enumerate(LENGTHS)])
    np.testing.assert_array_equal(read(folder).actions, expected[:, None].astype(np.float32))
    with h5py.File(file, "a") as content:  # Half an action would be cut to an integer.
        del content["episode_2/actions"]
        content["episode_2/actions"] = np.arange(5) + 0.5
    assert_refused(folder, "episode 2, actions .*its type is float64")
