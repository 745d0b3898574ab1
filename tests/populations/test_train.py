"""Whole populations, small, on a real environment: each member is the run on its own."""

import dataclasses
import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from small_runs import (
    DATASET,
    Crash,
    arrays,
    assert_same_run,
    offline_config,
    saved,
    stop_at,
)
from test_hosts import run_processes, start_processes

from iql_jax.envs.episodes import Evaluator
from iql_jax.populations import report, run
from iql_jax.populations.run import check_finished, train_sweep
from iql_jax.populations.sweep import members_of
from iql_jax.training import report as training_report
from iql_jax.training.offline import train_offline
from iql_jax.utils.errors import Diverged, UserError
from iql_jax.utils.signals import Interrupted

pytestmark = pytest.mark.usefixtures("pointmaze")

CONFIG = offline_config(seed=3, checkpoint_interval=20)
SWEEP = [{"expectile": 0.6}, {"expectile": 0.9, "critic_lr": 1e-3}]


def members():
    return members_of(CONFIG, SWEEP)


NAMES = [member.name for member in members()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pointmaze):
    folder = tmp_path_factory.mktemp("population")
    return folder, train_sweep(members(), folder)


@pytest.fixture
def no_pictures(finished, monkeypatch):
    """They take most of a small run's time."""
    monkeypatch.setattr(training_report, "draw", lambda *args: None)
    monkeypatch.setattr(report, "draw_curves", lambda *args: None)
    monkeypatch.setattr(report, "draw_sweep", lambda *args: None)


def test_a_member_is_the_run_on_its_own(finished, tmp_path):
    member = members()[1]
    summary = train_offline(member.config, tmp_path)
    own = finished[0] / member.name
    assert {path.name for path in own.iterdir()} == {path.name for path in tmp_path.iterdir()}
    assert_same_run(own, tmp_path)
    records = [json.loads((folder / "config.json").read_text()) for folder in (own, tmp_path)]
    for record in records:
        del record["run_id"]
    assert records[0] == records[1]
    theirs = json.loads((own / "summary.json").read_text())
    for key in ("score", "return_mean", "updates", "seed", "eval_episodes", "dataset"):
        assert theirs[key] == summary[key]
    # A run on its own has nothing left to do here, and leaves it alone.
    before = (own / "metrics.csv").read_text()
    train_offline(member.config, own)
    assert (own / "metrics.csv").read_text() == before


def test_members_with_data_of_their_own_train_together(finished, no_pictures, tmp_path):
    mixed = members_of(CONFIG, [SWEEP[0], {"reward_transform": "none"}])
    train_sweep(mixed, tmp_path / "together")
    assert len(list((tmp_path / "together" / "populations").iterdir())) == 1
    assert_same_run(tmp_path / "together" / mixed[0].name, finished[0] / NAMES[0])
    train_offline(mixed[1].config, tmp_path / "alone")
    assert_same_run(tmp_path / "together" / mixed[1].name, tmp_path / "alone")


def test_a_killed_one_resumes_to_the_same_bits(finished, no_pictures, tmp_path, monkeypatch):
    stop_at(monkeypatch, "evaluations", 40, signal.SIGKILL)
    with pytest.raises(Crash):
        train_sweep(members(), tmp_path)
    assert not any(tmp_path.glob("*/summary.json"))
    assert train_sweep(members(), tmp_path) == finished[1]
    for name in NAMES:
        assert_same_run(tmp_path / name, finished[0] / name)


def test_members_that_come_later_leave_the_others_alone(
    finished, no_pictures, tmp_path, monkeypatch
):
    trained = []
    train = run.train_population
    monkeypatch.setattr(
        run, "train_population", lambda p: (trained.append([m.name for m in p.members]), train(p))
    )
    folder = tmp_path / "population"
    shutil.copytree(finished[0], folder)
    more = [*members(), *members_of(dataclasses.replace(CONFIG, num_seeds=2))]
    rows = train_sweep(more, folder)
    assert [row["status"] for row in rows] == ["finished"] * 4
    assert trained == [["seed_3", "seed_4"]]
    assert_same_run(folder / NAMES[0], finished[0] / NAMES[0])


def test_a_member_that_diverges_is_marked_and_the_others_continue(
    finished, no_pictures, tmp_path, monkeypatch, capsys
):
    broken = members_of(CONFIG, [{"value_lr": 1e30, "critic_lr": 1e30}])
    three = [members()[0], *broken, members()[1]]
    # It stays marked when the population resumes.
    stop_at(monkeypatch, "metrics", 40, signal.SIGTERM)
    with pytest.raises(Interrupted):
        train_sweep(three, tmp_path)
    play = Evaluator.run

    def spoil(self, tasks, *args, **more):
        results = play(self, tasks, *args, **more)
        return [results[0], Diverged("not finite")] if len(tasks) == 2 else results

    monkeypatch.setattr(Evaluator, "run", spoil)
    rows = train_sweep(three, tmp_path)
    assert [row["status"] for row in rows] == ["finished", "failed", "failed"]
    assert "not finite between updates 0 and 20" in rows[1]["failure"]
    assert rows[2]["failure"] == "actions not finite at update 40"
    assert not (tmp_path / NAMES[1] / "evaluations.csv").exists()
    name = broken[0].name
    assert capsys.readouterr().err.count(f"member {name} has failed, the others continue") == 1
    with pytest.raises(UserError, match=rf"2 of 3 members have failed \({name}"):
        check_finished(rows, tmp_path)
    assert_same_run(tmp_path / NAMES[0], finished[0] / NAMES[0])
    assert not (tmp_path / name / "metrics.csv").exists()


def test_a_member_that_diverges_late_keeps_its_last_good_state(no_pictures, tmp_path, monkeypatch):
    gather = run.train_population.__globals__["Placement"].gather

    def spoil(self, tree):
        host = gather(self, tree)
        if isinstance(host, dict) and spoil.calls == 1:
            host = {name: np.where([False, True], np.nan, mean) for name, mean in host.items()}
        spoil.calls -= isinstance(host, dict)
        return host

    spoil.calls = 2
    monkeypatch.setattr(run.train_population.__globals__["Placement"], "gather", spoil)
    rows = train_sweep(members(), tmp_path)
    assert "not finite between updates 20 and 40" in rows[1]["failure"]
    state, progress = saved(tmp_path / NAMES[1])
    assert (int(state.step), progress["step"]) == (20, 20)
    assert all(np.isfinite(x).all() for x in arrays(state.actor))


def test_a_population_of_which_all_diverge_has_failed(tmp_path):
    config = dataclasses.replace(CONFIG, num_seeds=2, value_lr=1e30, eval_episodes=0)
    for _ in range(2):
        rows = train_sweep(members_of(config), tmp_path)
        assert [row["status"] for row in rows] == ["failed"] * 2


def test_a_folder_of_another_kind_or_other_settings_is_refused(finished):
    folder = finished[0]
    with pytest.raises(UserError, match="holds a population"):
        train_offline(CONFIG, folder)
    with pytest.raises(UserError, match="holds a run"):
        train_sweep(members(), folder / NAMES[0])
    config = dataclasses.replace(CONFIG, discount=0.5)
    with pytest.raises(UserError, match="discount"):
        train_sweep(members_of(config, SWEEP), folder)


def test_a_dataset_that_cannot_be_had_stops_the_sweep_before_it_starts(tmp_path):
    sweep = [{"dataset": DATASET}, {"dataset": "test/none-v0"}]
    with pytest.raises(UserError, match="test/none-v0"):
        train_sweep(members_of(CONFIG, sweep), tmp_path / "runs")
    assert not Path(tmp_path / "runs").exists()


ON_TWO_PROCESSES = """
import sys
from pathlib import Path
from iql_jax import cli
from iql_jax.populations.run import train_sweep
from iql_jax.populations.sweep import members_of
from iql_jax.training.config import from_mapping
from iql_jax.utils import hosts

settings, sweep = eval(sys.argv[4])
hosts.start("localhost:" + sys.argv[1], 2, int(sys.argv[2]))
cli.guard(lambda: train_sweep(members_of(from_mapping(settings), sweep), Path(sys.argv[3])))
"""


def test_two_processes_with_two_devices_resume_a_population(
    finished, no_pictures, tmp_path, monkeypatch
):
    stop_at(monkeypatch, "metrics", 20, signal.SIGTERM)
    with pytest.raises(Interrupted, match="at update 20; saved in") as caught:
        train_sweep(members(), tmp_path)
    assert caught.value.resumable
    settings = repr((CONFIG.to_dict(), SWEEP))
    first, second = run_processes(ON_TWO_PROCESSES, tmp_path, settings, devices=2)
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert "2 members done" in first[2]
    assert "done" not in second[2]  # One of them writes and speaks.
    for name in NAMES:
        assert_same_run(tmp_path / name, finished[0] / name)
        assert (tmp_path / name / "value_map.png").exists()
    summary = json.loads((tmp_path / NAMES[0] / "summary.json").read_text())
    assert summary["device"].endswith("x 4")


FULL_DISK = """
import errno, os, sys
from orbax.checkpoint import CheckpointManager

def fail(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

if sys.argv[2] == "0":
    CheckpointManager.save = fail
"""


def test_a_full_disk_under_one_process_ends_both(no_pictures, tmp_path):
    settings = repr((dataclasses.replace(CONFIG, eval_episodes=0).to_dict(), SWEEP))
    first, second = run_processes(FULL_DISK + ON_TWO_PROCESSES, tmp_path, settings)
    assert first[0] == 1
    assert "no space left to save" in first[2].splitlines()[-1]
    assert second[0] != 0


def test_a_killed_process_ends_the_other_and_nothing_is_lost(no_pictures, tmp_path):
    changes = {"max_steps": 600, "log_interval": 100, "checkpoint_interval": 100}
    config = dataclasses.replace(CONFIG, **changes, eval_episodes=0)
    settings = repr((config.to_dict(), SWEEP))
    first, second = start_processes(ON_TWO_PROCESSES, tmp_path / "killed", settings)
    while not (tmp_path / "killed" / "populations" / "0" / "checkpoints" / "100").exists():
        assert first.poll() is second.poll() is None
        time.sleep(0.002)
    first.kill()
    for process in (first, second):  # None waits for the other.
        process.communicate(timeout=120)
        assert process.returncode != 0
    assert not any((tmp_path / "killed").glob("*/summary.json"))
    trained = members_of(config, SWEEP)
    assert train_sweep(trained, tmp_path / "killed") == train_sweep(trained, tmp_path / "whole")
    for name in NAMES:
        assert_same_run(tmp_path / "killed" / name, tmp_path / "whole" / name)
