"""Reading: every number at its place, and every defect named."""

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


def assert_coded(episodes):
    """What ``coded_episodes(LENGTHS)`` must become."""
    assert not episodes.is_dict
    assert list(episodes.observations) == ["observation"]
    expected = np.concatenate([code(1, e, steps + 1, 4) for e, steps in enumerate(LENGTHS)])
    np.testing.assert_array_equal(episodes.observations["observation"], expected)
    actions = np.concatenate([code(0, e, steps, 2) / 1e5 for e, steps in enumerate(LENGTHS)])
    np.testing.assert_array_equal(episodes.actions, actions.astype(np.float32))
    np.testing.assert_array_equal(episodes.rewards, [0, 1, 2, 100, 200, 201, 202, 203, 204])
    np.testing.assert_array_equal(episodes.lengths, LENGTHS)
    np.testing.assert_array_equal(np.flatnonzero(episodes.terminations), [3])
    np.testing.assert_array_equal(episodes.rows, [0, 1, 2, 4, 6, 7, 8, 9, 10])
    np.testing.assert_array_equal(episodes.next_rows, [1, 2, 3, 5, 7, 8, 9, 10, 11])
    np.testing.assert_array_equal(episodes.first_steps(), [0, 3, 4])
    for array in (episodes.observations["observation"], episodes.actions, episodes.rewards):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous


def test_box_observations(folder):
    assert_coded(read(folder))


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


def test_another_format_is_refused(folder):
    change_metadata(folder, data_format="arrow")
    with pytest.raises(UserError, match=r"arrow format; write it in .* hdf5"):
        read(folder)


def test_missing_spaces_never_build_the_environment(folder):
    # Minari's own reader would import this entry point.
    spec = spec_json("stranger_module:Env", "Stranger-v0")
    change_metadata(folder, observation_space=None, action_space=None, env_spec=spec)
    assert_coded(read(folder))


def test_a_truncated_file(folder, file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"test/box-v0.*main_data\.hdf5.*truncated.*again"):
        read(folder)


def test_a_missing_file(folder, file):
    file.unlink()
    with pytest.raises(UserError, match=r"main_data.hdf5 cannot be opened"):
        read(folder)


def test_missing_or_broken_metadata(folder):
    metadata = folder / "data" / "metadata.json"
    metadata.write_text("{")
    with pytest.raises(UserError, match=r"metadata\.json cannot be read"):
        read(folder)
    metadata.write_text("{}")
    with pytest.raises(UserError, match="lacks dataset_id or total_episodes"):
        read(folder)
    metadata.write_text("[]")
    with pytest.raises(UserError, match="lacks dataset_id"):
        read(folder)
    metadata.write_text('{"dataset_id": "a/b-v0", "total_episodes": 3, "env_spec": [7]}')
    with pytest.raises(UserError, match=r"holds \[7\] as its env_spec"):
        read(folder)
    metadata.unlink()
    with pytest.raises(UserError, match=r"metadata\.json cannot be read"):
        read(folder)


def test_episodes_that_are_not_there(folder, file):
    with h5py.File(file, "a") as content:
        del content["episode_1"]
    with pytest.raises(UserError, match=r"episode 1.* cannot be read"):
        read(folder)


def test_transitions_that_the_metadata_promise(folder):
    change_metadata(folder, total_steps=8)
    with pytest.raises(UserError, match="promise 8 transitions, there are 9"):
        read(folder)


def test_no_episodes(folder):
    change_metadata(folder, total_episodes=0)
    with pytest.raises(UserError, match="test/box-v0 has no episodes"):
        read(folder)


def test_a_missing_field(folder, file):
    with h5py.File(file, "a") as content:
        del content["episode_2/rewards"]
    with pytest.raises(UserError, match="episode 2, rewards cannot be read"):
        read(folder)


@pytest.mark.parametrize(
    ("path", "index", "value", "message"),
    [
        (
            "observations",
            (3, 1),
            np.nan,
            r"episode 2, observations holds nan at step 3 \(component 1\)",
        ),
        ("observations", (5, 0), 1e300, "episode 2, observations holds inf at step 5"),
        ("rewards", 4, -np.inf, "episode 2, rewards holds -inf at step 4"),
        ("actions", (0, 1), np.nan, "episode 2, actions holds nan at step 0"),
    ],
)
def test_numbers_that_are_not_finite(folder, file, path, index, value, message):
    with h5py.File(file, "a") as content:
        content[f"episode_2/{path}"][index] = value
    with pytest.raises(UserError, match=f"test/box-v0: {message}"):
        read(folder)


@pytest.mark.parametrize(
    ("field", "rows", "message"),
    [
        ("observations", 5, "episode 2 has 5 rows of observations for 5 rewards"),
        ("observations", 7, "episode 2 has 7 rows of observations for 5 rewards"),
        ("actions", 6, "episode 2 has 6 rows of actions for 5 rewards"),
        ("terminations", 4, "episode 2 has 4 rows of terminations for 5 rewards"),
        ("rewards", 0, "episode 2 has no transitions"),
    ],
)
def test_lengths_that_do_not_fit(folder, file, field, rows, message):
    with h5py.File(file, "a") as content:
        dataset = content[f"episode_2/{field}"]
        dataset.resize((rows, *dataset.shape[1:]))
    with pytest.raises(UserError, match=message):
        read(folder)


def test_a_width_that_changes():
    episodes = coded_episodes(LENGTHS)
    episodes[1] = episode_buffer(1, 1, code(1, 1, 2, 3))
    folder = write_dataset("test/width-v0", episodes, box(4))
    with pytest.raises(UserError, match="observations have several widths"):
        read(folder)


def test_discrete_actions_are_read_as_they_are(folder, file):
    change_metadata(folder, action_space='{"type": "Discrete", "n": 7}')
    with pytest.raises(UserError, match="episode 0: actions are float32, not integers"):
        read(folder)
    with h5py.File(file, "a") as content:
        for e, steps in enumerate(LENGTHS):
            del content[f"episode_{e}/actions"]
            content[f"episode_{e}/actions"] = np.arange(steps) + e
    episodes = read(folder)
    expected = np.concatenate([np.arange(steps) + e for e, steps in enumerate(LENGTHS)])
    np.testing.assert_array_equal(episodes.actions, expected[:, None].astype(np.float32))


def test_actions_that_are_neither_vectors_nor_of_a_discrete_space(folder, file):
    with h5py.File(file, "a") as content:
        del content["episode_0/actions"]
        content["episode_0/actions"] = np.array([0, 1, 0])
    with pytest.raises(UserError, match="episode 0: actions are int64, not continuous"):
        read(folder)
    change_metadata(folder, action_space='{"type": "MultiDiscrete", "nvec": [2, 2]}')
    with pytest.raises(UserError, match="MultiDiscrete actions; only Box and Discrete"):
        read(folder)


@pytest.mark.parametrize(
    "space",
    [
        '{"type": "Box", "shape": [2], "low": [-1], "high": [1, 1]}',
        '{"type": "Box", "shape": [1], "low": ["x"], "high": [1]}',
        '{"type": "Box", "shape": [1]}',
        '{"type": "Discrete"}',
        '{"type": "Discrete", "n": Infinity}',
        "[3]",
        "{",
    ],
)
def test_a_broken_action_space(folder, space):
    change_metadata(folder, action_space=space)
    with pytest.raises(UserError, match=r"test/.* has an action space that cannot be read"):
        read(folder)


def test_images_are_refused(folder, file):
    with h5py.File(file, "a") as content:
        for e, steps in enumerate(LENGTHS):
            del content[f"episode_{e}/observations"]
            content[f"episode_{e}/observations"] = np.zeros((steps + 1, 8, 8), np.uint8)
    with pytest.raises(UserError, match=r"observations has shape \[4, 8, 8\].*only vectors"):
        read(folder)
