"""Whole fine-tuning runs, small, on a real environment: what they write, and their settings."""

import json
import signal

import jax
import numpy as np
import pytest
from absl.testing import flagsaver
from finetune_runs import (
    BOUNDARY,
    END,
    TIME_LIMIT,
    TRANSITIONS,
    assert_same_rows,
    buffer_of,
    config_of,
    rebuilt,
    saved,
    steps,
    stop_at,
)
from minari_datasets import box, coded_episodes, write_dataset

from iql_jax import evaluate
from iql_jax.algorithm.types import Transitions
from iql_jax.outputs.logs import read_table
from iql_jax.outputs.transitions import TransitionLog
from iql_jax.training.finetune import train_finetune
from iql_jax.training.run import load_source
from iql_jax.utils.errors import UserError
from iql_jax.utils.signals import Interrupted

pytestmark = pytest.mark.usefixtures("finetune_data", "no_pictures")


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
    made = jax.tree.map(
        lambda *parts: np.concatenate(parts), *(Transitions(**made) for made in log.read())
    )
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


# Settings.


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
    assert_same_rows(kept, load_source(config).transitions)


def test_a_part_of_the_dataset_is_drawn_by_the_seed(tmp_path, phases, monkeypatch):
    whole = load_source(config_of()).transitions
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
