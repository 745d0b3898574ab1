"""D4RL's tasks: their names, time limits and environments."""

import numpy as np
import pytest
from data_files import d4rl_arrays, write_hdf5
from minari_datasets import load

from iql_jax.data.d4rl_tasks import TASKS, find_task
from iql_jax.envs.make import make_environment


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hopper_medium-v2", "hopper-medium-v2"),
        ("hopper-medium-expert-v2_segments", "hopper-medium-expert-v2-segments"),
        ("d4rl/hopper/medium-v2", "hopper-medium-v2"),
        ("door_expert_regenerated", "door-expert-regenerated"),
        ("maze2d-umaze-sparse-v1", "maze2d-umaze-sparse-v1"),
        (
            "Ant_maze_big-maze_noisy_multistart_True_multigoal_False_sparse_fixed",
            "antmaze-medium-play",
        ),
        ("kitchen_microwave_kettle_light_slider-v0", "kitchen-partial"),
        ("antmaze-ultra-diverse-v0", None),
        ("berkeley_hopper_v2", None),
        ("maze2d-eval-umaze-v1", None),
    ],
)
def test_names(name, expected):
    found = find_task(name)
    assert (found and found[0]) == expected


def test_time_limits():
    limits = {"maze2d-umaze-v0": 150, "maze2d-umaze-v1": 300, "maze2d-large-dense-v0": 600}
    limits |= {"antmaze-umaze-diverse-v0": 700, "antmaze-large-play-v2": 1000, "pen-human-v1": 100}
    assert {name: find_task(name)[1].time_limit for name in limits} == limits


@pytest.mark.parametrize("name", ["halfcheetah", "walker2d", "pen", "hammer", "door", "relocate"])
def test_environments_fit(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs what it thinks of Gymnasium's HalfCheetah.
    task = TASKS[name]
    arrays = d4rl_arrays(60, task.observation_dim, task.action_dim)
    dataset = load(write_hdf5(tmp_path / f"{name}-some-v1.hdf5", arrays))
    env = make_environment(dataset.environment)
    assert env.spec.max_episode_steps == task.time_limit
    observation, _ = env.reset(seed=0)
    assert observation.shape == (task.observation_dim,)
    env.close()
    assert dataset.score_rule.kind == "normalized"


def test_contact_forces_of_zero_stay_so_in_the_evaluation(tmp_path):
    arrays = d4rl_arrays(observation_dim=111, action_dim=8)
    for name in ("observations", "next_observations"):
        arrays[name][:, 27:] = 0
    dataset = load(write_hdf5(tmp_path / "ant-medium-v2.hdf5", arrays))
    env = make_environment(dataset.environment)
    env.reset(seed=0)
    assert not np.any([env.step(env.action_space.sample())[0][27:] for _ in range(20)])
    env.close()
