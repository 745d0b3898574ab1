"""Members that train in processes of their own, one a core: each is the run on its own."""

import dataclasses
import os
import signal

import pytest
from small_runs import assert_same_run, finetune_config, offline_config

from iql_jax.populations import processes
from iql_jax.populations.processes import in_processes
from iql_jax.populations.run import train_sweep
from iql_jax.populations.sweep import members_of
from iql_jax.training.finetune import train_finetune
from iql_jax.training.offline import train_offline
from iql_jax.utils.errors import UserError
from iql_jax.utils.processes import cores
from iql_jax.utils.signals import Interrupted

pytestmark = pytest.mark.usefixtures("pointmaze")

CONFIG = offline_config(checkpoint_interval=20, eval_episodes=0)


def train(members, folder):
    return train_sweep(members, folder, engine=in_processes, alone=True)


def at_progress(monkeypatch, action):
    """Calls ``action`` when a member has made an update."""
    show = processes._Bar.show

    def act(bar, population, done, total):
        show(bar, population, done, total)
        if done:
            action()

    monkeypatch.setattr(processes._Bar, "show", act)


def test_ctrl_c_saves_all_members_which_resume_to_the_bits_of_runs_on_their_own(
    tmp_path, monkeypatch
):
    longer = dataclasses.replace(CONFIG, max_steps=4_000, checkpoint_interval=4_000)
    members = members_of(dataclasses.replace(longer, num_seeds=2))
    with monkeypatch.context() as patch:
        keys = [signal.SIGINT]  # pressed once: a second would end the command hard
        at_progress(patch, lambda: keys and os.kill(os.getpid(), keys.pop()))
        with pytest.raises(Interrupted) as caught:
            train(members, tmp_path / "all")
    assert caught.value.resumable
    assert not (tmp_path / "all" / "populations" / "data").exists()
    assert any((tmp_path / "all").glob("populations/*/checkpoints/*"))
    rows = train(members, tmp_path / "all")
    assert [row["status"] for row in rows] == ["finished"] * 2
    for member in members:
        train_offline(member.config, tmp_path / member.name)
        assert_same_run(tmp_path / "all" / member.name, tmp_path / member.name)


def test_seeds_fine_tune_side_by_side_and_one_may_diverge(tmp_path, capsys):
    config = finetune_config(eval_episodes=0, num_pretraining_steps=0)
    members = members_of(config, [{}, {"value_lr": 1e30, "critic_lr": 1e30}])
    rows = train(members, tmp_path / "all")
    assert [row["status"] for row in rows] == ["finished", "failed"]
    assert "not finite" in rows[1]["failure"]
    assert "has failed, the others continue" in capsys.readouterr().err
    train_finetune(members[0].config, tmp_path / "alone")
    assert_same_run(tmp_path / "all" / members[0].name, tmp_path / "alone")


def test_a_process_that_dies_ends_the_command_in_one_line(tmp_path, monkeypatch):
    members = members_of(dataclasses.replace(CONFIG, num_seeds=len(cores()) + 1))
    started = []

    class Watched(processes.CoreProcess):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            started.append(self._process.pid)

    monkeypatch.setattr(processes, "CoreProcess", Watched)
    at_progress(monkeypatch, lambda: started and os.kill(started.pop(0), signal.SIGKILL))
    with pytest.raises(UserError, match=r"ended without a word .* the same command resumes"):
        train(members, tmp_path)
