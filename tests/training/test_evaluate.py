"""The evaluation command on saved runs, called in this process."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from helpers import OBSERVATION_DIM, make_state
from minari_datasets import box, episode_buffer, spec_json, write_dataset
from small_runs import OFFLINE

import iql_jax
from iql_jax import evaluate, export
from iql_jax.algorithm import eval_actions
from iql_jax.envs.video import configure_headless_rendering
from iql_jax.outputs.logs import read_table
from iql_jax.training.config import from_mapping
from iql_jax.training.evaluation import numpy_policy
from iql_jax.training.offline import train_offline
from iql_jax.utils.errors import UserError

POLICIES = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", POLICIES, re.DOTALL)
PENDULUM = spec_json("gymnasium.envs.classic_control.pendulum:PendulumEnv", "Pendulum-v1", 20)
SETTINGS = {
    **OFFLINE,
    "dataset": "test/pendulum-v0",
    "reward_transform": "none",
    "max_steps": 40,
    "eval_interval": 20,
    "eval_episodes": 3,
}


@pytest.fixture(scope="module", autouse=True)
def datasets(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        write_pendulum("test/pendulum-v0", PENDULUM)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, datasets):
    folder = tmp_path_factory.mktemp("run")
    return folder, train_offline(from_mapping(SETTINGS), folder)


def write_pendulum(dataset_id, spec):
    """A dataset of numbers, whose environment is a pendulum."""
    episodes = [
        episode_buffer(e, 9, np.tile([1.0, 0.0, e], (10, 1)), action_dim=1) for e in range(2)
    ]
    actions = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)
    write_dataset(dataset_id, episodes, box(3), actions, env_spec=spec)


def run(capsys, **values):
    with flagsaver.flagsaver(**values):
        evaluate.main([])
    return dict(line.split() for line in capsys.readouterr().out.splitlines())


def test_it_repeats_the_last_evaluation(finished, capsys):
    folder, summary = finished
    before, last = (row["return_mean"] for row in read_table(folder / "evaluations.csv"))
    assert before != pytest.approx(last, rel=1e-2)
    printed = run(capsys, workdir=str(folder))
    assert float(printed["return_mean"]) == pytest.approx(summary["return_mean"], rel=1e-3)
    assert summary["return_mean"] == last
    assert printed["episodes"] == "3"
    sampled = run(capsys, workdir=str(folder), sample=True)
    assert sampled["return_mean"] != printed["return_mean"]
    # To the very digits, in other processes too.
    assert run(capsys, workdir=str(folder), sample=True, eval_processes=2) == sampled


def test_a_run_folder_is_enough(finished, tmp_path, capsys, monkeypatch):
    folder, summary = finished
    copied = shutil.copytree(folder, tmp_path / "copied")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "none"))
    printed = run(capsys, workdir=str(copied))
    assert float(printed["return_mean"]) == pytest.approx(summary["return_mean"], rel=1e-3)
    # Actions are torques between -2 and 2; one observation, or a batch.
    policy = iql_jax.load_policy(copied)
    observations = np.random.default_rng(0).normal(size=(5, 3))
    actions = policy(observations)
    assert actions.shape == (5, 1)
    np.testing.assert_array_equal(policy(observations[2]), actions[2])


@pytest.mark.parametrize("discrete", [False, True])
def test_numpy_acts_as_the_networks_do(discrete):
    actor = make_state(discrete_actions=discrete).actor
    observations = np.random.default_rng(0).normal(size=(9, OBSERVATION_DIM)).astype(np.float32)
    expected = eval_actions(actor, observations)
    np.testing.assert_allclose(numpy_policy(actor)(observations), expected, atol=1e-6)


def test_exported_policies_act_without_the_package(finished, tmp_path):
    folder, _ = finished
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    expected = iql_jax.load_policy(folder)(observations)
    for suffix in ("npz", "jaxexport"):
        export.main([f"--workdir={folder}", f"--out={tmp_path / 'policy'}.{suffix}"])
        np.save(tmp_path / "observations.npy", observations)
        (example,) = (block for block in EXAMPLES if f"policy.{suffix}" in block)
        code = f"observations = __import__('numpy').load('observations.npy')\n{example}"
        code += "import sys; assert 'iql_jax' not in sys.modules\n"
        code += "np.save('actions.npy', actions)\n"
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
        np.testing.assert_allclose(np.load(tmp_path / "actions.npy"), expected, atol=1e-6)
    with pytest.raises(UserError, match=r"\.npz or \.jaxexport"):
        export.main([f"--workdir={folder}", f"--out={tmp_path / 'policy.onnx'}"])


def test_an_environment_is_trusted_by_the_flag_alone(tmp_path, capsys, monkeypatch):
    (tmp_path / "stranger_pendulum.py").write_text(
        "from gymnasium.envs.classic_control.pendulum import PendulumEnv\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = spec_json("stranger_pendulum:PendulumEnv", "Stranger-v0", 5)
    write_pendulum("test/stranger-v0", spec)
    settings = {"dataset": "test/stranger-v0", "eval_episodes": 0, "trust_environment": True}
    train_offline(from_mapping({**SETTINGS, **settings}), tmp_path / "run")
    asked = {"workdir": str(tmp_path / "run"), "episodes": 1, "eval_processes": 1}
    # A run folder may be a stranger's, whatever its config.json says.
    with pytest.raises(UserError, match="trusted only with trust_environment"):
        run(capsys, **asked)
    assert run(capsys, **asked, trust_environment=True)["length_mean"] == "5"
    # Where the run itself had no evaluations, the command says how many episodes to play.
    with pytest.raises(UserError, match="--episodes"):
        run(capsys, **{**asked, "episodes": None}, trust_environment=True)


def test_a_film_that_cannot_be_written_is_refused_first(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "load_networks", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(UserError, match=r"\.mp4"):
        run(capsys, workdir=str(finished[0]), video=str(tmp_path / "film.gif"))


def test_a_film_of_the_first_episode(finished, tmp_path, capsys):
    try:
        configure_headless_rendering()
    except UserError as error:
        pytest.skip(str(error))  # A machine without OpenGL renders nothing; the error says so.
    pytest.importorskip("pygame", reason="the pendulum is drawn by pygame")
    film = tmp_path / "film.mp4"
    run(capsys, workdir=str(finished[0]), episodes=1, video=str(film))
    assert film.read_bytes()[4:8] == b"ftyp"
