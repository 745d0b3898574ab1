"""Small files of D4RL's and OGBench's formats; and both's own view of them, in plain Python."""

import h5py
import numpy as np

HOPPER = "hopper_medium-v2.hdf5"


def d4rl_arrays(rows=600, observation_dim=11, action_dim=3, seed=0, dtype=np.float32):
    """Steps as D4RL stores them: each number random, but for a row's index in its reward."""
    rng = np.random.default_rng(seed)
    terminals = rng.uniform(size=rows) < 0.03
    timeouts = np.zeros(rows, bool)
    timeouts[49::50] = True
    observations = rng.normal(size=(rows, observation_dim)).astype(dtype)
    following = np.concatenate([observations[1:], observations[:1]])
    ends = terminals | timeouts
    following[ends] = rng.normal(size=(int(ends.sum()), observation_dim)).astype(dtype)
    following[-1] = rng.normal(size=observation_dim)
    return {
        "observations": observations,
        "next_observations": following,
        "actions": rng.uniform(-1, 1, (rows, action_dim)).astype(dtype),
        "rewards": (np.arange(rows) + rng.uniform(size=rows)).astype(dtype),
        "terminals": terminals,
        "timeouts": timeouts,
    }


def write_hdf5(path, arrays):
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, compression="gzip")
    return path


class View:
    """D4RL's transitions: the rows, and whether each ends the bootstrap."""

    def __init__(self, arrays, rows):
        self.rows, self._arrays = rows, dict(arrays)
        self.masks = [1.0 - float(arrays["terminals"][i]) for i in rows]

    def arrays(self):
        """The next observation is the following row's, whatever the file stores."""
        following = [i + 1 for i in self.rows]
        found = {
            key: self._arrays[key][self.rows] for key in ("observations", "actions", "rewards")
        }
        found |= {"masks": self.masks, "next_observations": self._arrays["observations"][following]}
        return {key: np.array(array, np.float32) for key, array in found.items()}


def d4rl_view(arrays, time_limit=1000):
    """What ``d4rl.qlearning_dataset`` returns, one row at a time, without its Gym environment."""
    rows, step = [], 0
    for i in range(len(arrays["rewards"]) - 1):
        at_limit = arrays["timeouts"][i] if "timeouts" in arrays else step == time_limit - 1
        if at_limit:
            step = 0
            continue
        if arrays["terminals"][i]:
            step = 0
        rows.append(i)
        step += 1
    return View(arrays, rows)


def official_episodes(view):
    """The lengths of IQL's trajectories: its code cuts at terminals, and where rows do not join."""
    lengths, found = [0], view.arrays()
    for i in range(len(view.rows)):
        lengths[-1] += 1
        if i + 1 < len(view.rows):
            gap = np.linalg.norm(found["observations"][i + 1] - found["next_observations"][i])
            if gap > 1e-6 or view.masks[i] == 0:
                lengths.append(0)
    return lengths


def ogbench_arrays(trajectories=4, length=21, observation_dim=29, action_dim=8, seed=0):
    """Trajectories as OGBench stores them: the last row of each has no transition."""
    rng = np.random.default_rng(seed)
    rows = trajectories * length
    terminals = np.zeros(rows, bool)
    terminals[length - 1 :: length] = True
    observations = rng.normal(size=(rows, observation_dim)).astype(np.float32)
    return {
        "observations": observations,
        "actions": rng.uniform(-1, 1, (rows, action_dim)).astype(np.float32),
        "terminals": terminals,
        "qpos": observations[:, :15].copy(),
        "qvel": rng.normal(size=(rows, 14)).astype(np.float32),
    }


def ogbench_view(arrays):
    """The transitions that ``ogbench.utils.load_dataset`` returns, one row at a time."""
    found = {"observations": [], "actions": [], "next_observations": []}
    for i in range(len(arrays["terminals"]) - 1):
        if not arrays["terminals"][i]:
            found["observations"].append(arrays["observations"][i])
            found["actions"].append(arrays["actions"][i])
            found["next_observations"].append(arrays["observations"][i + 1])
    return {key: np.array(rows) for key, rows in found.items()}


def without(arrays, *keys):
    return {key: array for key, array in arrays.items() if key not in keys}


def assert_equal(transitions, expected):
    limit = np.float32(1 - 1e-5)  # IQL's official code clips actions so.
    expected = {**expected, "actions": np.clip(expected["actions"], -limit, limit)}
    for field, array in expected.items():
        found = transitions[field]
        assert found.dtype == array.dtype == np.float32
        assert np.array_equal(found, array), field
