"""The groups of runs, and their tables from finished folders."""

import dataclasses
import json
from pathlib import Path

import pytest

import scores
from common import curves
from common.groups import GROUPS, Entry
from common.runs import Run, read_rows

ENTRY = Entry("antmaze-umaze", "10% BC", "antmaze", {"dataset": "iql/antmaze/umaze-v0", "tau": 0.1})


def finished(root, entry=ENTRY, seed=0, scores=(10.0, 80.0), used=None, rate=0.01, **summary):
    run = entry.run(root, "group", seed, Path("/files"))
    run.folder.mkdir(parents=True)
    dataset = {"id": used or run.settings["dataset"]}
    ended = {
        "score": scores[-1], "success_rate": scores[-1] * rate, "updates": 400,
        "eval_episodes": 100, "dataset": dataset, **summary,
    }  # fmt: skip
    (run.folder / "summary.json").write_text(json.dumps(ended))
    (run.folder / "config.json").write_text(json.dumps({"config": dict(run.settings)}))
    rows = [f"{200 * (i + 1)},{score},{score * rate}\n" for i, score in enumerate(scores)]
    (run.folder / "evaluations.csv").write_text("step,score,success_rate\n" + "".join(rows))
    return run


def test_each_entry_has_a_folder_and_a_config_of_its_own():
    for group, entries in GROUPS.items():
        assert len({entry.name for entry in entries}) == len(entries), group
        assert all(Path(f"configs/{entry.config}.py").exists() for entry in entries)
        assert all(entry.after in {"", *GROUPS} for entry in entries)


def test_what_starts_a_run():
    entry = dataclasses.replace(ENTRY, config="antmaze_finetune", after="antmaze")
    run = entry.run(Path("/runs"), "online", 1, Path())
    assert run.folder == Path("/runs/online/antmaze-umaze-10_BC/seed_1")
    command = run.command()
    assert command[1:3] == ["train_finetune.py", "--config=configs/antmaze_finetune.py"]
    assert "--config.seed=1" in command
    assert "--config.offline_run=/runs/antmaze/antmaze-umaze-10_BC/seed_1" in command


def test_a_population_has_the_same_folders():
    runs = [ENTRY.run(Path("/runs"), "group", seed, Path()) for seed in (2, 3)]
    together = scores.population(runs)
    assert together.folder == runs[0].folder.parent
    assert together.settings["seed"] == 2
    assert together.settings["num_seeds"] == 2
    with pytest.raises(SystemExit, match="consecutive"):
        scores.population(runs[::-1])


def test_the_table_of_finished_runs(tmp_path):
    runs = [finished(tmp_path, seed=i, scores=(10.0, 80.0 + 10 * i)) for i in range(3)]
    assert all(map(scores.is_finished, runs))
    table = scores.report({ENTRY: runs})
    assert (
        "| antmaze-umaze | 10% BC | 400 | 90.0 ± 10.0 | 65.2 to 100.0 | 80.0, 90.0, 100.0 | 87.5 |"
        in table
    )
    assert "100 episodes" in table
    assert "took its place" not in table


def test_a_longer_evaluation_takes_the_place_of_the_last_one(tmp_path):
    runs = [finished(tmp_path, seed=i, rate=0.005) for i in range(3)]
    for run, score in zip(runs, (120.0, 125.0, 130.0), strict=True):  # No rates: not cut at 100.
        (run.folder / "episodes_500.txt").write_text(f"score  {score}\nsuccess_rate  0.9\n")
    table = scores.report({ENTRY: [scores.evaluated(run, 500) for run in runs]})
    assert "| 125.0 ± 5.0 | 112.6 to 137.4 | 120.0, 125.0, 130.0 |" in table
    assert "500 episodes" in table


def test_the_table_says_which_other_dataset_was_used(tmp_path):
    run = finished(tmp_path, used="iql/antmaze/other-v0")
    assert "iql/antmaze/umaze-v0: iql/antmaze/other-v0 took its place" in scores.report(
        {ENTRY: [run]}
    )


def test_the_table_of_fine_tuning(tmp_path):
    entry = dataclasses.replace(ENTRY, config="antmaze_finetune")
    run = finished(tmp_path, entry, scores=(70.0, 90.0), offline_score=70.0, env_steps=300)
    row = "| 100 | 70.0 | 300 | 90.0 | - | 90.0 | 86.7 to 96 | 77 to 96.5 |"
    assert row in scores.report({entry: [run]})


def test_a_folder_with_other_settings_is_refused(tmp_path):
    run = finished(tmp_path)
    other = dataclasses.replace(run, settings={**run.settings, "tau": "0.10", "max_steps": 7})
    assert scores.is_finished(other, scores.BUDGET)
    with pytest.raises(SystemExit, match="max_steps"):
        scores.is_finished(other)
    with pytest.raises(SystemExit, match=r"tau=0\.1, not 0\.2"):
        scores.is_finished(dataclasses.replace(run, settings={**run.settings, "tau": 0.2}))


def test_curves_are_of_the_steps_at_which_all_were_evaluated(tmp_path):
    runs = [finished(tmp_path, scores=(1.0, 2.0)), finished(tmp_path, seed=1, scores=(3.0,))]
    assert curves.common_steps(runs) == ([200], [[1.0], [3.0]])
    curves.draw(tmp_path / "p.png", {"antmaze-umaze": {"IQL": runs}})
    assert (tmp_path / "p.png").stat().st_size > 1_000


def test_a_torn_row_is_left_out(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,v,wall_seconds\n1,2,3\n2,")
    run = Run(tmp_path, "antmaze", {})
    assert run.table("metrics") == [{"step": 1.0, "v": 2.0, "wall_seconds": 3.0}]
    assert read_rows(tmp_path / "metrics.csv", ["wall_seconds"]) == [{"step": "1", "v": "2"}]
    assert run.table("evaluations") == []
