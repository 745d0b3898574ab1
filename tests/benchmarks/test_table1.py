"""The benchmark of table 1: others' numbers, means over tasks, and what the report shows."""

import dataclasses
import json
import os
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from benchmark_runs import ROOT, rows

import aggregates
import curves
import published
import reports
import runs as bench
from iql_jax.outputs import plots
from populations import Population

# Others' numbers.


@pytest.mark.parametrize(
    ("dataset", "task"),
    [
        ("D4RL/door/human-v2", "door-human"),
        ("dapg/door/human-v0", "door-human"),
        ("d4rl/hopper/medium-replay-v2", "hopper-medium-replay"),
        ("hopper-medium-v2", "hopper-medium"),
        ("iql/antmaze/umaze-v0", "antmaze-umaze"),
        ("D4RL/kitchen/mixed-v2", "kitchen-mixed"),
        ("D4RL/pen/expert-v2", "pen-expert"),
        ("iql/pointmaze/umaze-v0", None),
        ("mujoco/hopper/simple-v0", None),
        ("iql/antmaze-mirrored/umaze-v0", None),
    ],
)
def test_a_datasets_name_in_the_literature(dataset, task):
    assert published.task(dataset) == task


def test_corls_means_are_those_that_it_reports():
    groups = {"antmaze": 57.17, "pen|door|hammer|relocate": 53.43, "hopper|half|walker": 81.63}
    for prefixes, mean in groups.items():
        entries = [
            last
            for name, (last, _) in published.CORL_LAST.items()
            if name.startswith(tuple(prefixes.split("|")))
        ]
        assert np.mean(entries) == pytest.approx(mean, abs=0.006)
    assert published.CORL_BEST.keys() == published.CORL_LAST.keys()
    for name, (last, _) in published.CORL_LAST.items():
        assert published.CORL_BEST[name][0] > last


# Means over tasks.


def test_the_interquartile_mean_is_of_all_runs_together():
    # Of eight runs the two highest and the two lowest are left out, whatever their tasks.
    assert aggregates.iqm([np.array([0.0, 1, 2, 3]), np.array([50.0, 60, 70, 90])]) == 28.75
    assert aggregates.iqm([np.array([10.0, 20, 60])]) == 30  # A quarter of three is no run.


def test_the_bootstrap_is_stratified():
    # Tasks differ, their runs do not: nothing is left to luck.
    same = [np.full(3, 10.0), np.full(3, 40.0), np.full(3, 90.0)]
    assert aggregates.iqm_interval(same) == pytest.approx((44, 44))
    # One task of two runs: 0, 50 and 100 with probabilities 1/4, 1/2, 1/4.
    assert aggregates.iqm_interval([np.array([0.0, 100])]) == (0, 100)
    assert aggregates.iqm_interval([np.array([1.0, 2]), np.array([3.0])]) is None


def test_the_bootstrap_repeats_itself():
    rng = np.random.default_rng(3)
    tasks = [rng.normal(center, 10, 5) for center in (20, 50, 80)]
    low, high = aggregates.iqm_interval(tasks)
    assert (low, high) == aggregates.iqm_interval(tasks)
    assert low < aggregates.iqm(tasks) < high
    assert high - low < 20  # Over tasks it would be three times as wide.


# Scores that are no success rates.


def test_panels_of_both_kinds_have_axes_of_their_own(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(plots, "save", lambda figure, path: saved.append(figure))
    at, scores = np.array([100, 200]), np.array([[0.0, 110], [-9, 113], [4, 108]])
    bounded = curves.Panel("maze", at, np.array([[0.0, 50.0]]))
    free = curves.Panel("hand", at, scores, bounds=reports.UNBOUNDED)
    curves.draw(tmp_path / "x.png", [bounded, free], "IQL")
    maze, hand = saved[0].axes
    # Lines at 0 and at 100 can be seen.
    assert maze.get_ylim() == (-curves._MARGIN, 100 + curves._MARGIN)
    assert hand.get_ylim()[0] < -9 < 116 < hand.get_ylim()[1]  # 116.6 ends the interval.
    assert saved[0].get_supylabel() == "score"


# The commands.


def test_a_population_is_one_command_and_runs_in_folders_of_their_own(tmp_path):
    population = Population(
        folder=tmp_path / "iql",
        config="configs/adroit.py",
        settings={"dataset": "a/b-v0", "seed": 4},
        seeds=2,
        options=("--engine=ray", "--task_cpus=2"),
    )
    assert population.command()[1:] == [
        "train_offline.py",
        "--config=configs/adroit.py",
        f"--workdir={tmp_path / 'iql'}",
        "--config.dataset=a/b-v0",
        "--config.seed=4",
        "--config.progress=False",
        "--config.num_seeds=2",
        "--engine=ray",
        "--task_cpus=2",
    ]
    file = bench.read_config_file("configs/adroit.py") | {"max_steps": 400}
    settings = {**file, "dataset": "a/b-v0"}
    population = dataclasses.replace(population, settings={**population.settings, "max_steps": 400})
    write_run(tmp_path / "iql" / "seed_4", [1.0], **settings | {"seed": 4})
    assert not population.is_finished()
    assert population.share_done() == 0.5
    write_run(tmp_path / "iql" / "seed_5", [1.0], **settings | {"seed": 5})
    assert population.is_finished()
    assert [member.settings["seed"] for member in population.members()] == [4, 5]


def test_what_is_run_is_the_populations_command(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(sys, "executable", "echo")
    population = Population(
        tmp_path / "iql", "c.py", {"seed": 0}, seeds=2, options=("--engine=ray",)
    )
    assert bench.run_all([population], 1) == []
    assert population.log.read_text().endswith("--config.num_seeds=2 --engine=ray\n")


def write_run(folder, scores, dataset, used=None, kind="normalized", **settings):
    """A finished run's folder, as far as tables read it; evaluations at equal distances."""
    folder.mkdir(parents=True)
    at = [400 * (i + 1) // len(scores) for i in range(len(scores))]
    configs = {"antmaze": "antmaze", "halfcheetah": "locomotion"}
    config = next((configs[name] for name in configs if name in str(folder)), "adroit")
    file = bench.read_config_file(f"configs/{config}.py")
    record = {
        "config": {**file, "max_steps": 400, "dataset": dataset, **settings},
        "dataset": {
            "id": used or dataset,
            "choices": {"score": {"kind": kind}},
            "notes": ["a caveat", "another"] if "door" in dataset else [],
        },
    }
    (folder / "config.json").write_text(json.dumps(record))
    lines = "".join(f"{u},{'' if s is None else s}\n" for u, s in zip(at, scores, strict=True))
    (folder / "evaluations.csv").write_text("update,score\n" + lines)
    (folder / "metrics.csv").write_text("update,v\n400,0.0\n")
    summary = {"score": scores[-1], "updates": 400, "eval_episodes": 10}
    (folder / "summary.json").write_text(json.dumps(summary))


# The benchmark.


def table1(tmp_path, *arguments):
    environment = {**os.environ, "MINARI_DATASETS_PATH": str(tmp_path / "datasets")}
    return subprocess.run(
        [sys.executable, "benchmarks/table1.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_the_table_of_what_is_here(tmp_path):
    # Local datasets: one with others' numbers, one without.
    for dataset in ("dapg/door/human-v0", "mujoco/hopper/simple-v0"):
        (tmp_path / "datasets" / dataset / "data").mkdir(parents=True)
    folder = tmp_path / "runs"
    door, umaze, play = "dapg/door/human-v0", "iql/antmaze/umaze-v0", "iql/antmaze/medium-play-v0"
    for seed, last in enumerate([-1.0, 2.0, 5.0]):
        write_run(folder / "iql-dapg-door-human-v0" / f"seed_{seed}", [last + 4, last], door)
    write_run(folder / "bc-dapg-door-human-v0" / "seed_0", [0.5], door, temperature=0.0, tau=0.1)
    for seed, last in enumerate([80.0, 90.0]):
        success = {"dataset": umaze, "kind": "success"}
        write_run(folder / "iql-iql-antmaze-umaze-v0" / f"seed_{seed}", [last], **success)
    write_run(
        folder / "iql-iql-antmaze-medium-play-v0" / "seed_0", [30.0], play, "x/twin-v0", "success"
    )
    write_run(folder / "iql-iql-halfcheetah-gaits-v0" / "seed_0", [None], "", kind="none")
    picture = tmp_path / "table1.png"
    done = table1(
        tmp_path, "--only_report", f"--runs={folder}", "--methods=IQL,BC", f"--picture={picture}"
    )
    assert done.returncode == 0, done.stderr
    table = {row[0].split()[0]: row for row in rows(done.stdout)}
    assert table["dapg/door/human-v0"][1:] == [
        *["400", "2.0 ± 3.0", "-5.5 to 9.5", "-1.0, 2.0, 5.0", "6.0 ± 3.0", "0.5"],
        *["4.3", "3.26 ± 1.83", "13.52 ± 1.22"],
    ]
    assert table["iql/antmaze/umaze-v0"][2:7] == [*["85.0 ± 7.1", "-", "80, 90", "85.0 ± 7.1", "-"]]
    assert table["iql/antmaze/medium-play-v0"][0].endswith("(x/twin-v0 in its place)")
    assert table["iql/antmaze/large-play-v0"][2:] == [
        *["-"] * 5,
        *["39.6", "42.00 ± 4.53", "53.50 ± 2.50"],
    ]
    assert table["iql/pointmaze/umaze-v0"][2:] == ["-"] * 8
    assert table["iql/halfcheetah/gaits-v0"][2:] == ["-"] * 8  # It has no reference.
    assert "mujoco/hopper/simple-v0" not in table
    assert "iql/discrete-umaze-v0" not in table
    # Means: of 85 and 30; without a quarter of three runs, which is none; of 87.5 and 71.2.
    assert table["antmaze"][1:] == ["2", "57.5", "66.7", "-", "79.3", "71.4"]
    # Of -1, 2, 5, 30, 80, 90 the first and the last are left out.
    assert table["all"][1:4] == ["3", "39.0", "29.2"]
    assert "\n- dapg/door/human-v0: a caveat; another.\n" in done.stdout
    # Not BC's temperature, which its column stands for.
    others = "Other settings than configs/adroit.py's: tau=0.1 (seed_0)."
    assert f"\n- dapg/door/human-v0: {others}\n" in done.stdout
    assert next(iter(table)) == "iql/halfcheetah/gaits-v0"
    assert matplotlib.image.imread(picture).shape[1] > 400


def test_one_seed_is_no_population_for_ray(tmp_path):
    done = table1(tmp_path, "--engine=ray", "--seeds=1", f"--runs={tmp_path}")
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert "--engine=ray trains a population" in line
    assert "--seeds=2" in line


def test_a_dataset_without_a_config_is_one_clear_line(tmp_path):
    done = table1(tmp_path, "--datasets=iql/discrete-umaze-v0", f"--runs={tmp_path}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("--datasets: iql/discrete-umaze-v0 is of none of the tasks")
