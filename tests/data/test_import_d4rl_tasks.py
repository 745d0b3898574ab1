"""Of which task a file of D4RL's is: its scores, time limit and environment."""

import numpy as np
import pytest
from import_files import (
    d4rl_arrays,
    import_arrays,
    load,
)
from iql_jax.data.imports.d4rl_tasks import TASKS, find_task

from iql_jax.data.metadata import read_metadata
from iql_jax.data.scores import d4rl_reference
from iql_jax.envs.make import make_environment

pytestmark = pytest.mark.usefixtures("data_folders")


class TestMetadata:
    def test_scores_and_environment(self, tmp_path):
        more = {"metadata__algorithm": np.bytes_("SAC"), "metadata__iteration": np.int32(7)}
        more |= {
            "metadata__policy__fc0__weight": np.zeros((2, 2)),
            "infos__qpos": np.zeros((600, 6)),
        }
        metadata = read_metadata(import_arrays(tmp_path, d4rl_arrays(), more=more))
        assert metadata["algorithm_name"] == "SAC"
        assert metadata["d4rl"]["metadata"] == {"algorithm": "SAC", "iteration": 7}
        assert metadata["d4rl"]["name"] == "hopper-medium-v2"
        assert "not the same" in metadata["description"]
        rule = load().score_rule
        assert rule.score([(3234.3 - 20.272305) / 2], None) == pytest.approx(50)

    def test_an_unknown_task_is_imported_and_said(self, tmp_path, capsys):
        import_arrays(tmp_path, d4rl_arrays(), "mine/robot-v0")
        assert "names no task of D4RL's" in capsys.readouterr().err
        dataset = load("mine/robot-v0")
        assert dataset.environment is None
        assert dataset.score_rule.kind == "none"

    def test_kitchen_has_no_environment(self, tmp_path, capsys):
        arrays = d4rl_arrays(observation_dim=60, action_dim=9)
        import_arrays(tmp_path, arrays, "d4rl/kitchen/complete-v0")
        assert "only training is possible" in capsys.readouterr().err
        assert load("d4rl/kitchen/complete-v0").environment is None

    def test_contact_forces_of_zero_stay_so_in_the_evaluation(self, tmp_path):
        arrays = d4rl_arrays(observation_dim=111, action_dim=8)
        for name in ("observations", "next_observations"):
            arrays[name][:, 27:] = 0
        import_arrays(tmp_path, arrays, "d4rl/ant/medium-v2")
        env = make_environment(load("d4rl/ant/medium-v2").environment)
        env.reset(seed=0)
        assert not np.any([env.step(env.action_space.sample())[0][27:] for _ in range(20)])
        env.close()


SOURCE = {
    "hopper-random-v0": (-20.272305, 3234.3),
    "halfcheetah-full-replay-v2": (-280.178953, 12135.0),
    "walker2d-medium-expert-v1": (1.629008, 4592.3),
    "ant-medium-replay-v2": (-325.6, 3879.7),
    "antmaze-large-diverse-v0": (0.0, 1.0),
    "maze2d-open-v0": (0.01, 20.66),
    "maze2d-umaze-v0": (0.94, 62.6),
    "maze2d-umaze-v1": (23.85, 161.86),
    "maze2d-large-dense-v1": (30.569041, 303.4857382709002),
    "maze2d-medium-dense-v0": (19.477620, 96.03474232952358),
    "pen-human-v1": (96.262799, 3076.8331017826877),
    "hammer-cloned-v0": (-274.856578, 12794.134825156867),
    "door-expert-v1": (-56.512833, 2880.5693087298737),
    "relocate-human-longhorizon-v1": (-6.425911, 4233.877797728884),
    "kitchen-mixed-v0": (0.0, 4.0),
}
"""A sample of d4rl/infos.py and of the registrations."""


class TestNames:
    @pytest.mark.parametrize("name", SOURCE)
    def test_references(self, name):
        assert d4rl_reference(name) == SOURCE[name]
        found = find_task("d4rl/" + name.replace("-", "/", 1))
        assert found is not None
        assert found[0] == name

    def test_time_limits(self):
        limits = {"maze2d-umaze-v0": 150, "maze2d-umaze-v1": 300, "maze2d-large-dense-v0": 600}
        limits |= {
            "antmaze-umaze-diverse-v0": 700,
            "antmaze-large-play-v2": 1000,
            "pen-human-v1": 100,
        }
        assert {name: find_task(name)[1].time_limit for name in limits} == limits

    @pytest.mark.parametrize(
        "dataset_id",
        [
            "d4rl/antmaze/ultra-diverse-v0",
            "d4rl/bullet-hopper/medium-v0",
            "d4rl/maze2d/eval-umaze-v1",
        ],
    )
    def test_other_tasks_are_not_taken_for_known_ones(self, dataset_id):
        assert find_task(dataset_id) is None

    @pytest.mark.parametrize("name", ["ant2-medium-v0", "minigrid-fourrooms-v0", "hopper2", ""])
    def test_no_reference(self, name):
        assert d4rl_reference(name) is None


@pytest.mark.parametrize("name", ["halfcheetah", "walker2d", "pen", "hammer", "door", "relocate"])
def test_environments_fit(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs what it thinks of Gymnasium's HalfCheetah.
    task = TASKS[name]
    arrays = d4rl_arrays(60, task.observation_dim, task.action_dim)
    import_arrays(tmp_path, arrays, f"d4rl/{name}/some-v1")
    dataset = load(f"d4rl/{name}/some-v1")
    env = make_environment(dataset.environment)
    assert env.spec.max_episode_steps == task.time_limit
    observation, _ = env.reset(seed=0)
    assert observation.shape == (task.observation_dim,)
    env.close()
    assert dataset.score_rule.kind == "normalized"
