"""Whole fine-tuning runs, small, on a real environment: what they write, resume and report."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from minari_datasets import box, change_metadata, coded_episodes, write_dataset

from configs import pointmaze_finetune
from iql_jax import evaluate, interaction, metrics, report
from iql_jax.checkpointing import Checkpoints
from iql_jax.collect.catalog import make
from iql_jax.config import Config, FinetuneConfig, from_mapping
from iql_jax.data.load import load_dataset
from iql_jax.environments import make_environment
from iql_jax.errors import UserError
from iql_jax.finetune import train_finetune
from iql_jax.interrupts import Interrupted
from iql_jax.metrics import TIMED, read_table
from iql_jax.offline import train_offline
from iql_jax.online import Online
from iql_jax.run import initial_state
from iql_jax.transition_log import TransitionLog

ROOT = Path(__file__).parent.parent
DATASET = "iql/pointmaze/umaze-v0"
TRANSITIONS = 600
TIME_LIMIT = 25

OFFLINE = {
    "dataset": DATASET,
    "reward_transform": "minus_one",
    "hidden_dims": (8,),
    "batch_size": 8,
    "log_interval": 20,
    "eval_interval": 40,
    "eval_episodes": 2,
    "eval_envs": 1,
    "checkpoint_interval": 60,
    "progress": False,
}
# The ring goes round: 120 steps into 600 + 60 rows.
SETTINGS = {**OFFLINE, "num_pretraining_steps": 60, "max_steps": 120, "replay_buffer_size": 660}
BOUNDARY, END = 60, 180


def config_of(**changes):
    return from_mapping({**SETTINGS, **changes}, FinetuneConfig)


@pytest.fixture(scope="module", autouse=True)
def datasets(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        patch.setenv("IQL_JAX_CACHE", str(root / "cache"))
        patch.setattr(interaction, "available_cores", lambda: 1)
        folder = Path(make(DATASET, steps=TRANSITIONS, seed=0, progress=False))
        content = json.loads((folder / "data" / "metadata.json").read_text())
        spec = json.loads(content["eval_env_spec"]) | {"max_episode_steps": TIME_LIMIT}
        change_metadata(folder, eval_env_spec=json.dumps(spec))
        yield


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """But for those of the run that is ``finished``."""
    monkeypatch.setattr(report, "draw", lambda *args: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, datasets):
    folder = tmp_path_factory.mktemp("finished")
    return folder, train_finetune(config_of(), folder)


@pytest.fixture(scope="module")
def offline(tmp_path_factory, datasets):
    """A finished offline run of the same settings."""
    folder = tmp_path_factory.mktemp("offline")
    settings = {**OFFLINE, "max_steps": BOUNDARY, "opt_decay_schedule": "none"}
    train_offline(from_mapping(settings), folder)
    return folder


def saved(folder):
    """The newest checkpoint: state and progress."""
    settings = Config(dataset=DATASET, hidden_dims=(8,), opt_decay_schedule="none")
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore_newest(initial_state(settings, load_dataset(settings)))


def arrays(state):
    leaves = jax.tree.leaves(state)
    is_key = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return [
        np.asarray(jax.random.key_data(leaf) if key else leaf)
        for leaf, key in zip(leaves, is_key, strict=True)
    ]


def assert_same_state(first, second):
    for ours, theirs in zip(arrays(first), arrays(second), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def untimed_rows(path):
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]


def assert_same_run(folder, expected):
    assert_same_state(saved(folder)[0], saved(expected)[0])
    for table in ("metrics.csv", "evaluations.csv", "episodes.csv"):
        assert untimed_rows(folder / table) == untimed_rows(expected / table)


def steps(folder, table):
    return [int(row["step"]) for row in read_table(folder / f"{table}.csv")]


# What a run leaves.


def test_the_folder_holds_all_that_was_promised(finished):
    folder, _ = finished
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "checkpoints", "config.json", "episodes.csv", "evaluations.csv",
        "learning_curve.png", "metrics.csv", "summary.json", "tb", "transitions", "value_map.png",
    }  # fmt: skip
    assert sorted(path.name for path in (folder / "transitions").iterdir()) == [
        "000000000-000000060.npz",
        "000000060-000000120.npz",
    ]
    record = json.loads((folder / "config.json").read_text())
    assert record["config"]["num_pretraining_steps"] == BOUNDARY
    assert record["config"]["offline_ratio"] == -1.0


def test_each_thing_happens_at_its_interval_and_at_both_ends(finished):
    folder, _ = finished
    assert steps(folder, "metrics") == [20, 40, 60, 80, 100, 120, 140, 160, 180]
    assert steps(folder, "evaluations") == [40, BOUNDARY, 100, 140, END]
    saves = sorted(int(path.name) for path in (folder / "checkpoints").iterdir())
    assert saves == [BOUNDARY, 120, END]


def test_metrics_say_where_batches_came_from_and_how_fast(finished):
    rows = read_table(finished[0] / "metrics.csv")
    before, after = rows[:3], rows[3:]
    assert [row["offline_share"] for row in before] == [1.0] * 3
    assert all(row["env_steps_per_second"] is None for row in before)
    shares = [row["offline_share"] for row in after]
    # At the end 60 of the dataset's 600 are overwritten, and 120 of 660 are the environment's.
    assert all(0.7 < share <= 1 for share in shares)
    assert np.mean(shares[-3:]) < 1
    assert all(row["env_steps_per_second"] > 0 for row in after)
    assert all(row["updates_per_second"] > 0 for row in rows)
    assert {"critic_loss", "v", "advantage", "wall_seconds"} <= set(rows[0])
    measured = [{k: v for k, v in row.items() if k != "env_steps_per_second"} for row in rows]
    assert all(np.isfinite(value) for row in measured for value in row.values())


def test_episodes_are_logged_as_they_end(finished):
    folder, summary = finished
    rows = read_table(folder / "episodes.csv")
    assert list(rows[0]) == ["step", "episode", "return", "length", "success", "regret"]
    ends = BOUNDARY + np.cumsum([row["length"] for row in rows])
    assert [row["step"] for row in rows] == ends.tolist()
    assert [row["episode"] for row in rows] == list(range(len(rows)))
    assert len(rows) == summary["episodes"] >= 4
    assert all(row["length"] == TIME_LIMIT or row["success"] == 1 for row in rows)
    successes = [row["success"] for row in rows]
    regrets = [1 - np.mean(successes[: n + 1]) for n in range(len(rows))]
    assert [row["regret"] for row in rows] == pytest.approx(regrets)


def test_evaluations_have_their_regret_from_the_boundary_on(finished):
    rows = read_table(finished[0] / "evaluations.csv")
    assert [row["regret"] for row in rows[:2]] == [None, None]
    successes = [row["success_rate"] for row in rows[2:]]
    regrets = [1 - np.mean(successes[: n + 1]) for n in range(3)]
    assert [row["regret"] for row in rows[2:]] == pytest.approx(regrets)


def test_the_summary_says_what_came_of_both_phases(finished):
    folder, summary = finished
    assert summary == json.loads((folder / "summary.json").read_text())
    evaluations = read_table(folder / "evaluations.csv")
    assert summary["score"] == evaluations[-1]["score"]
    assert summary["offline_score"] == evaluations[1]["score"]
    assert summary["regret"] == evaluations[-1]["regret"]
    assert summary["env_steps"] == 120
    assert summary["updates"] == int(saved(folder)[0].step) == 180


def test_the_log_holds_the_environments_own_rewards_and_true_last_observations(finished):
    folder, _ = finished
    log = TransitionLog(folder / "transitions")
    log.restore(120)
    made = jax.tree.map(lambda *parts: np.concatenate(parts), *log.read())
    episodes = read_table(folder / "episodes.csv")
    ends = np.cumsum([int(row["length"]) for row in episodes])
    returns = [
        made.rewards[end - int(row["length"]) : end].sum()
        for end, row in zip(ends, episodes, strict=True)
    ]
    assert returns == [row["return"] for row in episodes]
    for end, row in zip(ends, episodes, strict=True):
        assert made.masks[end - 1] == 1 - row["success"]
        if end < 120:
            # A new episode begins elsewhere, and not where the last one ended.
            assert not np.array_equal(made.next_observations[end - 1], made.observations[end])
    inside = np.setdiff1d(np.arange(119), ends - 1)
    np.testing.assert_array_equal(made.next_observations[inside], made.observations[inside + 1])
    assert (made.masks[inside] == 1).all()


# The two phases.


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


@pytest.mark.parametrize("starts_from", ["its own offline phase", "an offline run"])
def test_a_cosine_ends_with_the_environment_steps(offline, tmp_path, starts_from):
    given = {"offline_run": str(offline)} if starts_from == "an offline run" else {}
    config = config_of(opt_decay_schedule="cosine", updates_per_step=2, start_steps=6, **given)
    train_finetune(config, tmp_path)
    ended = saved(tmp_path)[0]
    expected = 2 * (config.max_steps - 6) + (0 if given else BOUNDARY)
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
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "summary.json").unlink(), "is not finished"),
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


# Settings.


@pytest.fixture
def phases(monkeypatch):
    """The online phases that runs of this test have begun."""
    begun = []
    begin = Online._begin

    def noted(self, state):
        begin(self, state)
        begun.append(self)

    monkeypatch.setattr(Online, "_begin", noted)
    return begun


def buffer_of(phase):
    buffer = phase._begun.buffer
    return jax.tree.map(lambda x: np.asarray(x)[: int(buffer.size)], buffer.transitions)


def rebuilt(phase, folder, capacity, keep_dataset=False):
    """What the buffer should hold by the dataset and the log, row by row."""
    data = phase._dataset
    log = TransitionLog(folder / "transitions")
    log.restore(phase.interaction.counters.env_steps)
    made = jax.tree.map(lambda *parts: np.concatenate(parts), *log.read())
    made = made.replace(rewards=data.reward_transform(made.rewards))
    num_dataset = data.transitions.size
    first = num_dataset if keep_dataset else 0
    rows = [*range(num_dataset)]
    place = num_dataset
    for index in range(num_dataset, num_dataset + made.size):
        if place == capacity:
            place = first
        rows[place : place + 1] = [index]
        place += 1
    everything = jax.tree.map(lambda *parts: np.concatenate(parts), data.transitions, made)
    return jax.tree.map(lambda x: x[rows], everything)


def assert_same_rows(actual, expected):
    for name in vars(expected):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), name)


def test_half_of_each_batch_from_the_dataset_and_four_environments(tmp_path, phases):
    config = config_of(offline_ratio=0.5, num_envs=4, start_steps=30, updates_per_step=2)
    summary = train_finetune(config, tmp_path)
    rows = read_table(tmp_path / "metrics.csv")
    assert [row["offline_share"] for row in rows] == [1.0] * 3 + [0.5] * 5
    assert [row["step"] for row in rows] == [20, 40, 60, 100, 120, 140, 160, 180]
    # After steps 32, 36, ..., 120, each time 4 x 2 updates.
    assert summary["updates"] == 60 + 23 * 8
    assert int(saved(tmp_path)[0].step) == summary["updates"]
    assert summary["env_steps"] == 120
    assert len(steps(tmp_path, "episodes")) == summary["episodes"] >= 4
    assert steps(tmp_path, "episodes") == sorted(steps(tmp_path, "episodes"))
    (phase,) = phases
    assert_same_rows(buffer_of(phase), rebuilt(phase, tmp_path, 660, keep_dataset=True))
    # The dataset is all there.
    kept = jax.tree.map(lambda x: x[:TRANSITIONS], buffer_of(phase))
    assert_same_rows(kept, load_dataset(config).transitions)


def test_a_part_of_the_dataset_is_drawn_by_the_seed(tmp_path, phases, monkeypatch):
    whole = load_dataset(config_of()).transitions
    known = {row.tobytes() for row in whole.observations}
    drawn = []
    for name, seed in (("a", 0), ("b", 1)):
        with monkeypatch.context() as patch:
            stop_at(patch, "metrics", 20, signal.SIGTERM)
            with pytest.raises(Interrupted):
                train_finetune(
                    config_of(init_dataset_size=100, num_pretraining_steps=0, seed=seed),
                    tmp_path / name,
                )
        phase = phases.pop()
        held = buffer_of(phase)
        assert held.size == 120
        drawn.append({row.tobytes() for row in held.observations[:100]})
        assert len(drawn[-1]) == 100
        assert drawn[-1] <= known
        assert_same_rows(held, rebuilt(phase, tmp_path / name, 660))
    assert drawn[0] != drawn[1]
    with pytest.raises(UserError, match="init_dataset_size is 601"):
        train_finetune(config_of(init_dataset_size=601), tmp_path / "c")


def test_a_buffer_that_cannot_hold_the_dataset_is_refused_before_any_training(tmp_path):
    with pytest.raises(UserError, match="replay_buffer_size is 599"):
        train_finetune(config_of(replay_buffer_size=599), tmp_path / "run")
    assert not (tmp_path / "run").exists()  # A larger one is no other run.


def test_a_dataset_without_an_environment_is_refused(tmp_path):
    write_dataset("test/plain-v0", coded_episodes(lengths=(9, 8)), box(4))
    settings = {"dataset": "test/plain-v0", "reward_transform": "none", "eval_episodes": 0}
    with pytest.raises(UserError, match="names no environment to fine-tune in"):
        train_finetune(config_of(**settings), tmp_path / "run")


def test_without_evaluations_it_trains_all_the_same(tmp_path):
    summary = train_finetune(config_of(eval_episodes=0, num_pretraining_steps=0), tmp_path)
    assert summary["offline_score"] is summary["regret"] is summary["score"] is None
    assert summary["updates"] == summary["env_steps"] == 120
    assert not (tmp_path / "evaluations.csv").exists()


def test_the_evaluation_command_repeats_the_last_evaluation(finished, tmp_path, capsys):
    # Here a step is not an update, and the folder's number of environments not the default.
    folder = tmp_path / "run"
    config = config_of(updates_per_step=2, eval_envs=1, num_pretraining_steps=20)
    summary = train_finetune(config, folder)
    assert summary["updates"] == 260
    capsys.readouterr()
    with flagsaver.flagsaver(workdir=str(folder)):
        evaluate.main([])
    printed = capsys.readouterr()
    assert "at step 140" in printed.err
    shown = dict(line.split() for line in printed.out.splitlines())
    last = read_table(folder / "evaluations.csv")[-1]
    assert float(shown["return_mean"]) == pytest.approx(last["return_mean"], rel=1e-3)
    assert float(shown["length_mean"]) == pytest.approx(last["length_mean"], rel=1e-3)


# Stops, kills, failures.


class Crash(Exception):
    """Stands for a kill: nothing in a run catches it, and nothing is saved on its way."""


def stop_at(monkeypatch, table, step, signum):
    """Stop the next run just after it has logged a row: by a signal, or as if killed."""
    write = metrics.RunLog.write

    def stopping(self, to, at, values):
        write(self, to, at, values)
        if (to, at) == (table, step):
            monkeypatch.setattr(metrics.RunLog, "write", write)
            if signum == signal.SIGKILL:
                raise Crash
            os.kill(os.getpid(), signum)

    monkeypatch.setattr(metrics.RunLog, "write", stopping)


def stop(monkeypatch, folder, table, step, signum, **changes):
    """Start, or go on with, a run that is stopped there."""
    stop_at(monkeypatch, table, step, signum)
    with pytest.raises(Crash if signum == signal.SIGKILL else Interrupted):
        train_finetune(config_of(**changes), folder)


def assert_nothing_is_lost(folder, phase, summary):
    """Counters, tables, log, buffer and state of a finished run agree with one another."""
    state, progress = saved(folder)
    counters = phase.interaction.counters
    assert progress["step"] == END
    assert progress["updates"] == int(state.step) == summary["updates"] == 180
    assert counters.env_steps == summary["env_steps"] == 120
    assert steps(folder, "metrics") == [20, 40, 60, 80, 100, 120, 140, 160, 180]
    assert steps(folder, "evaluations") == [40, BOUNDARY, 100, 140, END]
    rows = read_table(folder / "episodes.csv")
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    numbers = [row["episode"] for row in rows]
    assert numbers == sorted(set(numbers))
    assert len(rows) == counters.episodes_ended == summary["episodes"]
    assert rows[-1]["regret"] == pytest.approx(1 - np.mean([row["success"] for row in rows]))
    # Between ends that follow each other there is an episode, and what was dropped before it.
    between = np.diff([BOUNDARY, *(row["step"] for row in rows)])
    assert (between >= [row["length"] for row in rows]).all()
    assert_same_rows(buffer_of(phase), rebuilt(phase, folder, 660))


def test_stops_before_the_first_environment_step_saved_leave_no_trace(
    finished, tmp_path, monkeypatch
):
    for table, step, signum in (
        ("metrics", 20, signal.SIGKILL),
        ("evaluations", 40, signal.SIGTERM),
        ("metrics", BOUNDARY, signal.SIGINT),
        ("evaluations", BOUNDARY, signal.SIGKILL),
        ("evaluations", BOUNDARY, signal.SIGTERM),
        ("metrics", 80, signal.SIGKILL),  # In the second phase, before its first checkpoint.
    ):
        stop(monkeypatch, tmp_path, table, step, signum)
    train_finetune(config_of(), tmp_path)
    assert_same_run(tmp_path, finished[0])


def test_stops_between_environment_steps_lose_the_open_episode_alone(
    tmp_path, monkeypatch, phases, capsys
):
    folder = tmp_path / "run"
    for table, step, signum, saved_at in (
        ("metrics", 80, signal.SIGTERM, 80),
        ("metrics", 140, signal.SIGKILL, 120),
        ("evaluations", 140, signal.SIGKILL, 120),
        ("evaluations", 140, signal.SIGINT, 140),
        ("metrics", 160, signal.SIGTERM, 160),
    ):
        stop(monkeypatch, folder, table, step, signum)
        state, progress = saved(folder)
        assert progress["step"] == int(state.step) == saved_at
        assert progress["extra"]["counters"]["env_steps"] == saved_at - BOUNDARY
    shutil.copytree(folder, tmp_path / "copy")
    summary = train_finetune(config_of(), folder)
    said = capsys.readouterr().err
    assert f"resuming {folder} at step 160" in said
    assert "dropping 1 unfinished training episode(s)" in said
    assert_nothing_is_lost(folder, phases[-1], summary)
    # How it goes on is a function of what is in the folder.
    train_finetune(config_of(), tmp_path / "copy")
    assert_same_run(tmp_path / "copy", folder)


def test_a_log_that_lost_a_file_is_said(tmp_path, monkeypatch):
    stop(monkeypatch, tmp_path, "metrics", 120, signal.SIGTERM)
    next((tmp_path / "transitions").iterdir()).unlink()
    with pytest.raises(UserError, match="of the 60 transitions"):
        train_finetune(config_of(), tmp_path)


class Faulty:
    """Wraps a real environment; goes wrong at one of its steps."""

    def __init__(self, env, fault, at):
        self._env, self._fault, self._left = env, fault, at

    def __getattr__(self, name):
        return getattr(self._env, name)

    def step(self, action):
        observation, reward, terminated, truncated, info = self._env.step(action)
        self._left -= 1
        if self._left == 0:
            if self._fault == "raises":
                raise RuntimeError("the hinge\nbroke")
            observation = observation * np.nan
        return observation, reward, terminated, truncated, info


def test_an_environment_that_fails_stops_the_run_with_its_state_saved(
    tmp_path, monkeypatch, phases
):
    reached = BOUNDARY
    for fault, at, said in (
        ("raises", 1, "episode 0 at step 1: RuntimeError: the hinge broke"),
        ("nan", 33, "at step 8 is not finite"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(
                interaction,
                "make_environment",
                lambda recipe, fault=fault, at=at: Faulty(make_environment(recipe), fault, at),
            )
            with pytest.raises(UserError) as caught:
                train_finetune(config_of(), tmp_path)
        message = str(caught.value)
        reached += at - 1
        assert said in message
        assert "\n" not in message
        assert f"step {reached} is saved in {tmp_path}" in message
        state, progress = saved(tmp_path)
        assert progress["step"] == int(state.step) == reached
        assert not (tmp_path / "summary.json").exists()
    summary = train_finetune(config_of(), tmp_path)
    assert_nothing_is_lost(tmp_path, phases[-1], summary)


def test_a_diverging_run_stops_and_says_where(tmp_path):
    with pytest.raises(UserError, match="not finite between steps") as caught:
        train_finetune(config_of(critic_lr=1e30, value_lr=1e30, num_pretraining_steps=0), tmp_path)
    assert str(tmp_path / "diagnosis") in str(caught.value)
    assert not (tmp_path / "summary.json").exists()


def test_the_command_survives_a_kill(tmp_path, monkeypatch):
    """The command as a person types it, killed in earnest."""
    folder = tmp_path / "run"
    changes = {**SETTINGS, "num_pretraining_steps": 0, "max_steps": 20_000}
    command = [
        sys.executable,
        "train_finetune.py",
        "--config=configs/pointmaze_finetune.py",
        f"--workdir={folder}",
        *(f"--config.{key}={value}" for key, value in changes.items()),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    episodes = folder / "episodes.csv"
    while not (episodes.exists() and episodes.read_text().count("\n") > 3):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.kill()
    assert process.communicate()[1].count("Traceback") == 0
    going_on = saved(folder)[1]["step"]
    assert 0 < going_on < 20_000

    config = from_mapping({**pointmaze_finetune.get_config().to_dict(), **changes}, FinetuneConfig)
    stop_at(monkeypatch, "metrics", going_on + 20, signal.SIGTERM)
    with pytest.raises(Interrupted, match=f"SIGTERM at step {going_on + 20:,}"):
        train_finetune(config, folder)
    state, progress = saved(folder)
    assert progress["step"] == int(state.step) == going_on + 20
    log = TransitionLog(folder / "transitions")
    log.restore(progress["extra"]["counters"]["env_steps"])
    assert sum(piece.size for piece in log.read()) == going_on + 20
    for table in ("metrics", "evaluations"):
        assert steps(folder, table) == sorted(set(steps(folder, table)))
