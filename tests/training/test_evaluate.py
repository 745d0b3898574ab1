"""The evaluation command on saved runs, called in this process."""

import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from minari_datasets import box, coded_episodes, episode_buffer, spec_json, write_dataset

from iql_jax import evaluate
from iql_jax.envs.video import configure_headless_rendering
from iql_jax.generation.generate import generate
from iql_jax.outputs.logs import read_table
from iql_jax.training.config import from_mapping
from iql_jax.training.offline import train_offline
from iql_jax.utils.errors import UserError

PENDULUM = spec_json("gymnasium.envs.classic_control.pendulum:PendulumEnv", "Pendulum-v1", 20)

SETTINGS = {
    "dataset": "iql/pointmaze/umaze-v0",
    "hidden_dims": (8,),
    "batch_size": 8,
    "max_steps": 4,
    "eval_episodes": 3,
    "progress": False,
}


@pytest.fixture(scope="module", autouse=True)
def datasets(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    flags.FLAGS.mark_as_parsed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        patch.setenv("IQL_JAX_CACHE", str(root / "cache"))
        generate(SETTINGS["dataset"], steps=600, progress=False)
        yield root


@pytest.fixture(scope="module")
def finished(tmp_path_factory, datasets):
    folder = tmp_path_factory.mktemp("run")
    return folder, train_offline(from_mapping(SETTINGS), folder)


def run(capsys, **values):
    with flagsaver.flagsaver(**values):
        evaluate.main([])
    return dict(line.split() for line in capsys.readouterr().out.splitlines())


def write_pendulum(dataset_id, spec):
    """A dataset of numbers, whose environment is a pendulum."""
    episodes = [
        episode_buffer(e, 9, np.tile([1.0, 0.0, e], (10, 1)), action_dim=1) for e in range(2)
    ]
    actions = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)
    write_dataset(dataset_id, episodes, box(3), actions, env_spec=spec)


def test_it_repeats_the_last_evaluation(tmp_path, capsys):
    # A return that depends on the policy and on the episodes, as the success in a maze does
    # not before much training.
    write_pendulum("test/pendulum-v0", PENDULUM)
    settings = {**SETTINGS, "dataset": "test/pendulum-v0", "max_steps": 40, "eval_interval": 20}
    summary = train_offline(from_mapping(settings), tmp_path)
    before, last = (row["return_mean"] for row in read_table(tmp_path / "evaluations.csv"))
    assert before != pytest.approx(last, rel=1e-2)
    printed = run(capsys, workdir=str(tmp_path))
    assert float(printed["return_mean"]) == pytest.approx(summary["return_mean"], rel=1e-3)
    assert float(printed["return_mean"]) == pytest.approx(last, rel=1e-3)
    assert printed["episodes"] == "3"
    sampled = run(capsys, workdir=str(tmp_path), sample=True)
    assert sampled["return_mean"] != printed["return_mean"]
    assert run(capsys, workdir=str(tmp_path), sample=True) == sampled


def test_an_environment_has_to_be_trusted(tmp_path, capsys, monkeypatch):
    (tmp_path / "stranger_pendulum.py").write_text(
        "from gymnasium.envs.classic_control.pendulum import PendulumEnv\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = spec_json("stranger_pendulum:PendulumEnv", "Stranger-v0", 5)
    write_pendulum("test/stranger-v0", spec)
    settings = {**SETTINGS, "dataset": "test/stranger-v0", "eval_episodes": 0}
    train_offline(from_mapping(settings), tmp_path / "run")
    with pytest.raises(UserError, match="trusted only with trust_environment"):
        run(capsys, workdir=str(tmp_path / "run"), episodes=1)
    asked = {"episodes": 1, "trust_environment": True}
    assert run(capsys, workdir=str(tmp_path / "run"), **asked)["length_mean"] == "5"


def test_a_film_that_cannot_be_is_refused_first(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "load_run", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(UserError, match=r"an \.mp4 file"):
        run(capsys, workdir=str(finished[0]), video=str(tmp_path / "film.gif"))


def test_a_run_without_evaluation_can_be_evaluated(tmp_path, capsys):
    train_offline(from_mapping({**SETTINGS, "eval_episodes": 0}), tmp_path)
    with pytest.raises(UserError, match="say how many --episodes"):
        run(capsys, workdir=str(tmp_path))
    assert run(capsys, workdir=str(tmp_path), episodes=2)["episodes"] == "2"


def test_a_film_comes_with_it(finished, tmp_path, capsys):
    try:
        configure_headless_rendering()
    except UserError as error:
        pytest.skip(str(error))  # A machine without OpenGL renders nothing; the error says so.
    film = tmp_path / "film.mp4"
    run(capsys, workdir=str(finished[0]), episodes=1, video=str(film))
    assert film.read_bytes()[4:8] == b"ftyp"


def test_other_data_than_the_runs_are_refused(finished, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(finished[0], copy)
    record = json.loads((copy / "config.json").read_text())
    record["dataset"]["fingerprint"] = "0" * 64
    (copy / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="a run on other data"):
        run(capsys, workdir=str(copy))


def test_a_run_without_a_checkpoint_is_said(finished, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(finished[0], copy)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(UserError, match="holds no checkpoint yet"):
        run(capsys, workdir=str(copy))


def test_a_dataset_without_an_environment_is_said(tmp_path, capsys):
    write_dataset("test/plain-v0", coded_episodes(lengths=(9, 8)), box(4))
    settings = {**SETTINGS, "dataset": "test/plain-v0", "eval_episodes": 0}
    train_offline(from_mapping(settings), tmp_path)
    with pytest.raises(UserError, match="names no environment"):
        run(capsys, workdir=str(tmp_path), episodes=1)
