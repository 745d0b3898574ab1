"""The benchmarks as commands: what they report of finished runs."""

import json
import subprocess

import matplotlib.image
import pytest
from benchmark_runs import command, rows, write_run

import elsewhere


def test_antmaze_reports_what_was_run(tmp_path):
    for seed, score in enumerate([80.0, 90.0, 100.0]):
        write_run(tmp_path / "runs" / f"iql-umaze-seed{seed}", [score - 50, score])
    best = {"temperature": 0.0, "top_episodes": 0.1, "maze_drop": "after_success"}
    write_run(tmp_path / "runs" / "10bc-umaze-seed0", [12.0], updates=100, **best)
    write_run(tmp_path / "runs" / "iql-large-play-seed0", [99.0], summary=False)
    picture = tmp_path / "pictures" / "curves.png"
    printed = command(
        "antmaze",
        "--only_report",
        f"--runs={tmp_path / 'runs'}",
        "--tasks=umaze,large-play",
        f"--picture={picture}",
        f"--out={tmp_path / 'table.md'}",
    )
    assert (tmp_path / "table.md").read_text() in printed
    assert rows(printed) == [
        [
            *["umaze", "400", "90.0 ± 10.0", "65.2 to 100.0", "80, 90, 100"],
            *["-", "12.0", "87.5", "77.00 ± 5.52"],
        ],
        ["large-play", "-", "-", "-", "-", "-", "-", "39.6", "42.00 ± 4.53"],
    ]
    assert "cloning at 100 updates" in printed
    assert "Other settings than" not in printed
    assert matplotlib.image.imread(picture).shape[1] > 400


def test_runs_of_other_settings_are_named(tmp_path):
    write_run(tmp_path / "iql-umaze-seed0", [80.0], expectile=0.7, batch_size=64)
    write_run(tmp_path / "iql-umaze-seed1", [8.0], temperature=0.0, batch_size=64)
    write_run(tmp_path / "bc-umaze-seed0", [12.0], temperature=0.0, batch_size=64)
    printed = command("antmaze", "--only_report", f"--runs={tmp_path}", "--tasks=umaze")
    # Of cloning, no temperature is what its column stands for.
    others = "batch_size=64; expectile=0.7 (iql-umaze-seed0); temperature=0.0 (iql-umaze-seed1). "
    assert f"Other settings than configs/antmaze.py's: {others}" in printed


def test_antmaze_tells_the_weights_that_are_asked_for(tmp_path):
    write_run(tmp_path / "iql-umaze-seed0", [80.0], temperature=3.0, max_weight=10.0)
    write_run(tmp_path / "iql-umaze-seed1", [8.0], temperature=3.0)
    arguments = ("--only_report", f"--runs={tmp_path}", "--tasks=umaze")
    printed = command("antmaze", *arguments, "--temperature=3", "--max_weight=10")
    assert "| IQL (temperature=3, max_weight=10), mean ± std |" in printed
    # A folder's runs of others are named.
    assert "settings than configs/antmaze.py's: max_weight=100.0 (iql-umaze-seed1). " in printed


def test_the_semantics_report_what_was_run(tmp_path):
    for seed, score in enumerate([10.0, 30.0]):
        trained = tmp_path / "runs" / f"umaze-stored-ends-seed{seed}"
        write_run(trained, [score])
        found = {"update": 400, "score": score / 10, "positions_in_walls": 0.5}
        (trained / elsewhere.ELSEWHERE).write_text(json.dumps(found))
    arguments = ("--only_report", f"--runs={tmp_path / 'runs'}", "--tasks=umaze")
    table = rows(command("antmaze_semantics", *arguments))
    assert len(table) == 12  # 3 rewards, 2 ends, 2 mazes.
    run = {tuple(row[:5]): row[5:] for row in table if row[5] != "-"}
    reading = ("as stored, goal hidden", "ends", "all")
    facts = ["10, 30", "400", "2.50 %"]
    assert run == {
        ("umaze", "the data's", *reading): [
            "20.0 ± 14.1",
            "-",
            *facts,
            "12.5 %",
            "-40.0",
        ],
        ("umaze", "mirrored", *reading): [
            *["2.0 ± 1.4", "-", "1, 3", "400", "2.50 %", "50.0 %", "-40.0"]
        ],
    }


def write_finetuned(folder, table, offline_score, ended, **settings):
    """A run of ``train_finetune.py``; ``table`` has the scores by step."""
    settings = {"config": "antmaze_finetune", "offline_run": "", **settings}
    write_run(folder, list(table.values()), **settings)
    lines = "".join(f"{step},{score}\n" for step, score in table.items())
    (folder / "evaluations.csv").write_text("step,score\n" + lines)
    summary = {"score": list(table.values())[-1], "offline_score": offline_score, **ended}
    (folder / "summary.json").write_text(json.dumps(summary))


def test_finetuning_reports_what_was_run(tmp_path):
    folder = tmp_path / "runs"
    online = {0: {400: 62.0, 450: 90.0, 500: 98.0}, 2: {400: 70.0, 450: 96.0, 500: 97.0}}
    for seed, table in online.items():  # Seed 1 is not there.
        write_run(tmp_path / f"offline{seed}", [100.0, 60.0])  # At 200 and 400 updates.
        ended = {"regret": 0.01 * seed, "wall_seconds": 60 + 15 * seed}
        write_finetuned(
            folder / f"antmaze-umaze-seed{seed}",
            table,
            table[400],
            {**ended, "env_steps": 100 + seed, "eval_episodes": 50 + seed},
            seed=seed,
            offline_run=str(tmp_path / f"offline{seed}"),
        )
    picture = tmp_path / "curve.png"
    printed = command(
        "finetune",
        "--task=antmaze-umaze",
        "--only_report",
        f"--runs={folder}",
        f"--picture={picture}",
        f"--out={tmp_path / 'table.md'}",
    )
    assert (tmp_path / "table.md").read_text() in printed
    assert printed.startswith("| antmaze-umaze | seeds 0, 2 |\n")
    assert rows(printed) == [
        ["offline updates", "400"],
        ["success after them (%), mean ± std", "66.0 ± 5.7 (62, 70)"],
        ["environment steps", "100 / 102"],
        ["success after them (%), mean ± std", "97.5 ± 0.7 (98, 97)"],
        ["95 % interval", "-"],  # Of two seeds.
        ["best mean, and where", "100.0 after 200 offline updates"],
        ["mean of 96 % or more from", "after 100 environment steps"],
        ["regret of the evaluations", "0.010"],
        ["minutes of the slowest run, online phase only", "1.5"],
        ["paper, D4RL's data", "86.7 -> 96"],
        ["CORL, D4RL's data", "77 -> 96.5"],
    ]
    assert "Success of 50 or 52 evaluation episodes a seed." in printed
    assert matplotlib.image.imread(picture).shape[1] > 400


def test_finetuning_from_offline_runs_of_several_lengths_has_no_common_steps(tmp_path):
    for seed, updates in ((0, 400), (1, 600)):
        offline = tmp_path / f"offline{seed}"
        write_run(offline, [60.0], updates=updates)
        write_finetuned(
            tmp_path / "runs" / f"antmaze-umaze-seed{seed}",
            {600: 80.0, 700: 90.0},
            60.0,
            {"regret": 0.1, "wall_seconds": 60, "env_steps": 100, "eval_episodes": 10},
            seed=seed,
            offline_run=str(offline),
        )
    with pytest.raises(subprocess.CalledProcessError) as caught:
        command("finetune", "--task=antmaze-umaze", "--only_report", f"--runs={tmp_path / 'runs'}")
    assert caught.value.stderr.splitlines()[-1].startswith(
        "the runs went on from offline runs of several lengths (antmaze-umaze-seed0: 400, "
        "antmaze-umaze-seed1: 600 updates)"
    )


def test_finetuning_that_trained_offline_itself_is_timed_whole(tmp_path):
    write_finetuned(
        tmp_path / "pointmaze-medium-seed0",
        {100: 40.0, 200: 80.0, 250: 90.0},
        80.0,
        {"regret": 0.1, "wall_seconds": 120, "env_steps": 50, "eval_episodes": 10},
        seed=0,
        num_pretraining_steps=200,
    )
    printed = command("finetune", "--only_report", f"--runs={tmp_path}")
    table = {row[0]: row[1] for row in rows(printed)}
    assert table["offline updates"] == "200"
    assert table["best mean, and where"] == "90.0 after 50 environment steps"
    assert table["mean of 99 % or more from"] == "never"
    assert table["minutes of the slowest run"] == "2.0"
