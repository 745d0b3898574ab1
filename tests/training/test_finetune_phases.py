"""The two phases of fine-tuning: the offline one, or a finished offline run in its place."""

import json
import shutil
import signal

import jax
import numpy as np
import pytest
from finetune_runs import (
    BOUNDARY,
    END,
    assert_same_state,
    config_of,
    saved,
    steps,
    stop,
    stop_at,
)
from tables import untimed_rows

from iql_jax.outputs.logs import read_table
from iql_jax.training.finetune import train_finetune
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted

pytestmark = pytest.mark.usefixtures("finetune_data", "no_pictures")


def test_the_offline_phase_is_an_offline_run_to_the_bit(offline, tmp_path, monkeypatch):
    stop_at(monkeypatch, "metrics", BOUNDARY, signal.SIGTERM)
    with pytest.raises(Interrupted):
        train_finetune(config_of(), tmp_path)
    assert_same_state(saved(tmp_path)[0], saved(offline)[0])
    theirs = untimed_rows(offline / "metrics.csv")
    ours = untimed_rows(tmp_path / "metrics.csv")
    assert [row.pop("offline_share") for row in ours] == ["1.0"] * 3
    assert [list(row.values()) for row in ours] == [list(row.values()) for row in theirs]


def test_a_run_goes_on_from_a_finished_offline_run(offline, finished, tmp_path, capsys):
    config = config_of(offline_run=str(offline), num_pretraining_steps=7)
    summary = train_finetune(config, tmp_path)
    assert f"going on from {offline} at step 60" in capsys.readouterr().err
    assert steps(tmp_path, "metrics") == [80, 100, 120, 140, 160, 180]
    assert steps(tmp_path, "evaluations") == [BOUNDARY, 100, 140, END]
    # Evaluated first, by the same seeds: the very evaluation with which the offline run ended.
    first = untimed_rows(tmp_path / "evaluations.csv")[0]
    last = untimed_rows(offline / "evaluations.csv")[-1]
    assert (first.pop("step"), first.pop("regret")) == ("60", "")
    assert last.pop("update") == "60"
    assert first == last
    assert summary["offline_score"] == float(last["score"])
    assert summary["updates"] == 120
    assert int(saved(tmp_path)[0].step) == 120  # Of this run; a schedule begins with it.
    # Nothing is done twice.
    before = {table: steps(tmp_path, table) for table in ("metrics", "evaluations", "episodes")}
    train_finetune(config, tmp_path)
    assert {table: steps(tmp_path, table) for table in before} == before
    assert "dropping" not in capsys.readouterr().err


def test_an_offline_run_is_taken_under_this_runs_hyperparameters(offline, tmp_path, monkeypatch):
    stop_at(monkeypatch, "evaluations", BOUNDARY, signal.SIGTERM)
    changes = {"actor_lr": 1e-3, "temperature": 1.0, "dropout_rate": 0.25, "seed": 7}
    with pytest.raises(Interrupted):
        train_finetune(config_of(offline_run=str(offline), **changes), tmp_path)
    begun, theirs = saved(tmp_path)[0], saved(offline)[0]
    assert_same_state(begun.actor, theirs.actor)
    assert_same_state(begun.target_critic_params, theirs.target_critic_params)
    assert float(begun.hyperparameters.actor_lr) == np.float32(1e-3)
    assert float(begun.hyperparameters.temperature) == 1.0
    assert float(begun.hyperparameters.dropout_rate) == 0.25
    assert np.isinf(float(begun.hyperparameters.actor_decay_steps))
    assert int(begun.step) == 0
    assert not np.array_equal(*(jax.random.key_data(state.key) for state in (begun, theirs)))


def test_runs_of_several_seeds_from_one_offline_run_draw_differently(
    offline, tmp_path, monkeypatch
):
    keys = []
    for seed in (7, 8):
        stop_at(monkeypatch, "evaluations", BOUNDARY, signal.SIGTERM)
        with pytest.raises(Interrupted):
            train_finetune(config_of(offline_run=str(offline), seed=seed), tmp_path / str(seed))
        keys.append(jax.random.key_data(saved(tmp_path / str(seed))[0].key))
    assert not np.array_equal(*keys)


@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("starts_from", ["its own offline phase", "an offline run"])
def test_a_cosine_ends_with_the_environment_steps(offline, tmp_path, starts_from, num_envs):
    given = {"offline_run": str(offline)} if starts_from == "an offline run" else {}
    given |= {"num_envs": num_envs, "updates_per_step": 2, "start_steps": 6}
    config = config_of(opt_decay_schedule="cosine", **given)
    train_finetune(config, tmp_path)
    ended = saved(tmp_path)[0]
    idle = 6 if num_envs == 1 else 4  # Of four environments' second step the half is too late.
    expected = 2 * (config.max_steps - idle) + (0 if starts_from == "an offline run" else BOUNDARY)
    assert int(ended.step) == float(ended.hyperparameters.actor_decay_steps) == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_dims": (16,)}, r"hidden_dims \[8\] -> \[16\]"),
        ({"layer_norm": True}, "layer_norm False -> True"),
        ({"reward_transform": "none"}, "reward_transform 'minus_one' -> 'none'"),
        ({"maze_terminate_at_success": False}, "maze_terminate_at_success True -> False"),
        ({"normalize_observations": True}, "normalize_observations False -> True"),
        ({"top_episodes": 0.5}, r"top_episodes 1\.0 -> 0\.5"),
    ],
)
def test_an_offline_run_of_other_settings_is_refused(offline, tmp_path, changes, said):
    config = config_of(offline_run=str(offline), **changes)
    with pytest.raises(UserError, match=said):
        train_finetune(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_wrong_offline_run_is_refused_before_the_data_are_had(offline, tmp_path):
    config = config_of(offline_run=str(offline), dataset="iql/pointmaze/umase-v0")
    with pytest.raises(UserError, match=r"other settings \(dataset "):
        train_finetune(config, tmp_path / "run")


def ends_later(folder):
    """As if the last checkpoint were damaged, and this the one before."""
    record = json.loads((folder / "config.json").read_text())
    record["config"]["max_steps"] = 80
    (folder / "config.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "summary.json").unlink(), "is not finished"),
        (ends_later, "ended at update 80, but its newest readable checkpoint is of 60"),
        (lambda folder: shutil.rmtree(folder / "checkpoints"), "holds no checkpoint"),
        (lambda folder: shutil.rmtree(folder), "holds no run"),
    ],
)
def test_an_offline_run_that_is_not_all_there_is_refused(offline, tmp_path, damage, said):
    copy = tmp_path / "copy"
    shutil.copytree(offline, copy)
    damage(copy)
    with pytest.raises(UserError, match=said):
        train_finetune(config_of(offline_run=str(copy)), tmp_path / "run")


def test_a_fine_tuning_run_is_no_offline_run(finished, tmp_path):
    with pytest.raises(UserError, match=r"is a fine-tuning run; name one of train_offline\.py"):
        train_finetune(config_of(offline_run=str(finished[0])), tmp_path / "run")


def test_a_run_that_has_gone_on_from_an_offline_run_needs_it_no_more(
    offline, tmp_path, monkeypatch, capsys
):
    copy, folder = tmp_path / "copy", tmp_path / "run"
    shutil.copytree(offline, copy)
    changes = {"offline_run": str(copy)}
    stop(monkeypatch, folder, "evaluations", BOUNDARY, signal.SIGTERM, **changes)
    stop(monkeypatch, folder, "metrics", 100, signal.SIGTERM, **changes)
    shutil.rmtree(copy)
    capsys.readouterr()
    summary = train_finetune(config_of(**changes), folder)
    assert "going on from" not in capsys.readouterr().err
    assert (summary["env_steps"], summary["updates"]) == (120, 120)
    assert steps(folder, "evaluations") == [BOUNDARY, 100, 140, END]
    assert summary["offline_score"] == read_table(folder / "evaluations.csv")[0]["score"]


def test_an_offline_run_on_other_data_is_refused(offline, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(offline, copy)
    record = json.loads((copy / "config.json").read_text())
    record["dataset"]["fingerprint"] = "0" * 64
    (copy / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="a run on other data"):
        train_finetune(config_of(offline_run=str(copy)), tmp_path / "run")


def test_an_offline_run_from_before_a_key_came_had_its_default(offline, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(offline, copy)
    record = json.loads((copy / "config.json").read_text())
    del record["config"]["maze_walls"], record["config"]["top_episodes"]
    (copy / "config.json").write_text(json.dumps(record))
    stop_at(monkeypatch, "evaluations", BOUNDARY, signal.SIGTERM)
    with pytest.raises(Interrupted):
        train_finetune(config_of(offline_run=str(copy)), tmp_path / "run")
    # And so had this one, as long as it has no checkpoint to go on from.
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    del record["config"]["maze_walls"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(record))
    stop_at(monkeypatch, "evaluations", BOUNDARY, signal.SIGTERM)
    with pytest.raises(Interrupted):
        train_finetune(config_of(offline_run=str(copy)), tmp_path / "run")


def test_only_the_phase_that_goes_on_is_compiled(tmp_path, monkeypatch, capsys):
    stop(monkeypatch, tmp_path, "metrics", BOUNDARY + 20, signal.SIGTERM)
    assert "compiled the update in" in capsys.readouterr().err
    stop(monkeypatch, tmp_path, "metrics", BOUNDARY + 60, signal.SIGTERM)
    said = capsys.readouterr().err
    assert "resuming" in said
    assert "compiled the update in" not in said
