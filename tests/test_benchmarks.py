"""What benchmarks share: schedules of runs, tables and pictures from the folders of runs."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import matplotlib.image
import numpy as np
import pytest
from minari_datasets import ANT_MAZE, box, code, episode_buffer, maze_spec, unit_box, write_dataset

import curves
import elsewhere
import medians
import mirrored_umaze
import runs as bench
from iql_jax import plots
from iql_jax.config import Config
from iql_jax.data.load import load_dataset

ROOT = Path(__file__).parent.parent


def write_run(folder, scores, updates=400, summary=True, **settings):
    """A run's folder with evaluations at equal distances, the last at ``updates``."""
    folder.mkdir(parents=True)
    at = [updates * (i + 1) // len(scores) for i in range(len(scores))]
    dataset = {
        "transitions": 1000,
        "choices": {"transitions_at_goal": 25, "positions_in_walls": 0.125},
    }
    record = {"config": {"max_steps": updates, **settings}, "dataset": dataset}
    (folder / "config.json").write_text(json.dumps(record))
    rows = "".join(f"{u},{s}\n" for u, s in zip(at, scores, strict=True))
    (folder / "evaluations.csv").write_text("update,score\n" + rows)
    (folder / "metrics.csv").write_text(f"update,v\n{updates // 2},-9.0\n{updates},-40.0\n")
    if summary:
        ended = {"score": scores[-1], "updates": updates, "eval_episodes": 100}
        (folder / "summary.json").write_text(json.dumps(ended))


def a_run(folder, **settings):
    return bench.Run(folder=folder, config="configs/antmaze.py", settings=settings)


# The schedule.


def fake(run):
    """A command that finishes a run, or fails if the run says so."""
    script = (
        "import sys; from pathlib import Path\n"
        "folder, fails = Path(sys.argv[1]), sys.argv[2] == 'True'\n"
        "print('log of', folder.name)\n"
        "sys.exit('no luck') if fails else None\n"
        "folder.mkdir()\n"
        "(folder / 'config.json').write_text('{\"config\": {\"seed\": 5}}')\n"
        "(folder / 'summary.json').write_text('{\"score\": 1.0}')"
    )
    return [sys.executable, "-c", script, str(run.folder), str(run.settings.get("fails", False))]


def test_finished_runs_are_skipped_and_a_failure_stops_no_other(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "_POLL_SECONDS", 0.02)
    write_run(tmp_path / "done", [1.0], seed=5)
    done = a_run(tmp_path / "done", seed=5)
    bad, good = a_run(tmp_path / "bad", fails=True), a_run(tmp_path / "good", seed=5)
    started = []

    def command(run):
        started.append(run.folder.name)
        return fake(run)

    assert bench.run_all([done, bad, good], 1, command) == [bad]
    assert started == ["bad", "good"]
    assert good.is_finished()
    assert not done.log.exists()
    assert bench.run_all([done, good], 2, command) == []
    assert started == ["bad", "good"]
    with pytest.raises(SystemExit) as ended:
        bench.finish([bad])
    assert ended.value.code == 1
    errors = capsys.readouterr().err
    assert "bad failed" in errors
    assert "  log of bad\n  no luck" in errors
    bench.finish([])


def test_a_dataset_is_made_once_before_the_runs_that_need_it(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "_POLL_SECONDS", 0.02)
    happened = []
    monkeypatch.setattr(bench, "resolve", happened.append)
    write_run(tmp_path / "done", [1.0], dataset="a/done-v0")
    new = [a_run(tmp_path / name, dataset=f"a/{name[:-1]}-v0") for name in ("x1", "x2", "y1")]

    def command(run):
        happened.append(run.folder.name)
        return fake(run)

    assert bench.run_all([a_run(tmp_path / "done", dataset="a/done-v0"), *new], 2, command) == []
    assert happened == ["a/x-v0", "a/y-v0", "x1", "x2", "y1"]


def test_a_run_with_other_settings_is_not_the_one_asked_for(tmp_path):
    write_run(tmp_path / "run", [1.0], updates=400)
    assert a_run(tmp_path / "run", max_steps=400).is_finished()
    assert not a_run(tmp_path / "run", max_steps=500).is_finished()
    # Keys that came after the run have their defaults.
    assert a_run(tmp_path / "run", max_steps=400, top_episodes=1.0).is_finished()
    assert not a_run(tmp_path / "run", max_steps=400, top_episodes=0.1).is_finished()


def test_how_far_a_run_is(tmp_path):
    assert a_run(tmp_path / "none").share_done() == 0
    write_run(tmp_path / "run", [1.0], updates=400, summary=False)
    (tmp_path / "run" / "metrics.csv").write_text("update,v\n100,-1.0\n300,-2.0\n35")
    assert a_run(tmp_path / "run").share_done() == 0.75
    assert a_run(tmp_path / "run").summary() is None


def test_a_command_is_what_anyone_would_type(tmp_path):
    command = a_run(tmp_path / "run", seed=3, temperature=0.0, dataset="a/b-v0").command()
    assert command[1:] == [
        "train_offline.py",
        "--config=configs/antmaze.py",
        f"--workdir={tmp_path / 'run'}",
        "--config.seed=3",
        "--config.temperature=0.0",
        "--config.dataset=a/b-v0",
        "--config.progress=False",
    ]


STOPPED = """
import sys
from pathlib import Path
import runs
def sleeper(run):
    script = ("import signal, sys, time\\n"
              "from pathlib import Path\\n"
              "note = lambda *_: (Path(sys.argv[1] + '.saved').touch(), sys.exit(1))\\n"
              "signal.signal(signal.SIGTERM, note)\\n"
              "Path(sys.argv[1] + '.started').touch()\\n"
              "time.sleep(60)")
    return [sys.executable, "-c", script, str(run.folder)]
folders = [Path(sys.argv[1]) / name for name in ("first", "second")]
runs.run_all([runs.Run(folder, "", {}) for folder in folders], 1, sleeper)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_starts_nothing_more(tmp_path, signum):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'benchmarks'}:{ROOT}"}
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path)], env=environment, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "first.started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signum)
    assert process.wait(60) != 0
    assert (tmp_path / "first.saved").exists()
    assert not (tmp_path / "second.started").exists()


# Pictures.


def test_curves_are_of_finished_runs_where_all_were_evaluated(tmp_path):
    write_run(tmp_path / "a", [10.0, 20.0, 30.0, 40.0])
    write_run(tmp_path / "b", [50.0, 60.0])  # At 200 and 400.
    write_run(tmp_path / "c", [70.0, 80.0], summary=False)
    updates, scores = curves.curve([a_run(tmp_path / name) for name in ("a", "b", "c", "d")])
    np.testing.assert_array_equal(updates, [200, 400])
    np.testing.assert_array_equal(scores, [[20, 40], [50, 60]])
    assert not curves.curve([a_run(tmp_path / "d")])[1].size


def test_the_spread_of_few_seeds_is_their_range():
    scores = np.array([[10.0, 40.0], [30.0, 20.0]])
    low, high, name = curves.spread(scores)
    np.testing.assert_array_equal([low, high], [[10, 20], [30, 40]])
    assert name == curves.RANGE
    low, high, name = curves.spread(np.array([[40.0, 7.0], [50.0, 7.0], [60.0, 7.0]]))
    np.testing.assert_allclose([low, high], [[25.159, 7], [74.841, 7]], atol=1e-3)
    assert name == curves.INTERVAL


def test_a_panel_draws_mean_spread_and_lines(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(plots, "save", lambda figure, path: saved.append(figure))
    at = np.array([100, 200])
    panels = [
        curves.Panel("one", at, np.array([[0.0, 50.0]])),
        curves.Panel("two", at, np.array([[0.0, 50.0], [20, 90]]), [("BC", 5.0)], [("paper", 80)]),
    ]
    curves.draw(tmp_path / "x.png", panels, "IQL")
    one, two = saved[0].axes
    np.testing.assert_array_equal(one.lines[0].get_xydata(), [[100, 0], [200, 50]])
    assert len(one.collections) == 0
    np.testing.assert_array_equal(two.lines[0].get_xydata(), [[100, 10], [200, 70]])
    assert len(two.collections) == 1
    assert [line.get_ydata()[0] for line in two.lines[2:]] == [5, 80]
    texts = [text.get_text() for text in saved[0].legends[0].get_texts()]
    assert texts == ["IQL, mean", curves.RANGE, "BC", "paper"]


# The benchmarks as commands.


def command(name, *arguments):
    return subprocess.run(
        [sys.executable, f"benchmarks/{name}.py", *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def rows(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_antmaze_reports_what_was_run(tmp_path):
    for seed, score in enumerate([80.0, 90.0, 100.0]):
        write_run(tmp_path / "runs" / f"iql-umaze-seed{seed}", [score - 50, score])
    write_run(tmp_path / "runs" / "10bc-umaze-seed0", [12.0], updates=100)
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
    assert matplotlib.image.imread(picture).shape[1] > 400


def test_the_semantics_report_what_was_run(tmp_path):
    for seed, score in enumerate([10.0, 30.0]):
        trained = tmp_path / "runs" / f"umaze-stored-ends-seed{seed}"
        write_run(trained, [score])
        found = {"update": 400, "score": score / 10, "positions_in_walls": 0.5}
        (trained / elsewhere.ELSEWHERE).write_text(json.dumps(found))
    arguments = ("--only_report", f"--runs={tmp_path / 'runs'}", "--tasks=umaze")
    table = rows(command("antmaze_semantics", *arguments))
    assert len(table) == 12  # 3 rewards, 2 ends, 2 mazes.
    run = {tuple(row[:4]): row[4:] for row in table if row[4] != "-"}
    reading = ("as stored, goal hidden", "ends")
    facts = ["10, 30", "400", "2.50 %"]
    assert run == {
        ("umaze", "the data's", *reading): [
            "20.0 ± 14.1",
            "0.0 to 100.0",
            *facts,
            "12.5 %",
            "-40.0",
        ],
        ("umaze", "mirrored", *reading): [
            *["2.0 ± 1.4", "0.0 to 14.7", "1, 3", "400", "2.50 %", "50.0 %", "-40.0"]
        ],
    }


def write_finetuned(folder, table, offline_score, ended, **settings):
    """A run of ``train_finetune.py``; ``table`` has the scores by step."""
    write_run(folder, list(table.values()), **{"offline_run": "", **settings})
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
        ["95 % interval", "91.1 to 100.0"],  # t is 12.706 with one degree of freedom.
        ["best mean, and where", "100.0 after 200 offline updates"],
        ["mean of 96 % or more from", "after 100 environment steps"],
        ["regret of the evaluations", "0.010"],
        ["minutes of the slowest run, online phase only", "1.5"],
        ["paper, D4RL's data", "86.7 -> 96"],
        ["CORL, D4RL's data", "77 -> 96.5"],
    ]
    assert "Success of 50 or 52 evaluation episodes a seed." in printed
    assert matplotlib.image.imread(picture).shape[1] > 400


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


# The mirrored maze.

MAP = [[1, 1, 1, 1, 1], [1, "g", 0, 0, 1], [1, 1, 1, 0, 1], [1, "r", 0, 0, 1], [1, 1, 1, 1, 1]]


@pytest.fixture
def umaze(tmp_path, monkeypatch):
    """An ant's way through the data's maze: (-4, -4) to (4, -4), (4, 4) and (-4, 4), the goal."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("IQL_JAX_CACHE", str(tmp_path / "cache"))
    return write_umaze()


def write_umaze(turns=1):
    position = np.array([[-4, -4], [4, -4], [4, 0], [4, 4], [-4, 4]] * turns, np.float64)
    rows = len(position)
    observations = {
        "observation": code(1, 0, rows, 27),
        "achieved_goal": position,
        "desired_goal": np.tile([-4.0, 4.0], (rows, 1)),
    }
    space = gym.spaces.Dict(observation=box(27), achieved_goal=box(2), desired_goal=box(2))
    rewards = (position[1:] == [-4, 4]).all(axis=1)
    episode = episode_buffer(0, rows - 1, observations, action_dim=8, rewards=rewards)
    spec = maze_spec(MAP, ANT_MAZE, continuing_task=True, reset_target=False)
    return write_dataset(
        "iql/antmaze-waiting/umaze-v0",
        [episode],
        space,
        unit_box(8),
        env_spec=spec,
        eval_env_spec=spec,
        ref_max_score=1.0,
    )


def tiny_run(folder, **settings):
    tiny = {"hidden_dims": [8], "batch_size": 4, "max_steps": 2, "eval_episodes": 1}
    dataset = "iql/antmaze-waiting/umaze-v0"
    return a_run(folder, dataset=dataset, seed=0, progress=False, **tiny, **settings)


def read_members(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def load(dataset, **choices):
    return load_dataset(Config(dataset=dataset, progress=False, **choices))


def test_half_a_turn_leads_from_the_datas_maze_to_minaris():
    turned = np.rot90(np.array(MAP, dtype=object), 2)
    assert turned.tolist() == mirrored_umaze.MINARI_EVALUATION_MAP


def test_the_mirrored_dataset_has_the_same_data_and_another_maze(umaze):
    mirrored = mirrored_umaze.make_mirrored("umaze")
    here = load("iql/antmaze-waiting/umaze-v0", maze_goal="stored")
    there = load(mirrored, maze_goal="stored", maze_walls="evaluation")
    assert here.record["fingerprint"] == there.record["fingerprint"]
    assert here.recipe.maze.goal == (-4, 4)
    assert there.recipe.maze.goal == (4, -4)
    assert there.recipe.kwargs["maze_map"] == mirrored_umaze.MINARI_EVALUATION_MAP
    assert here.record["choices"]["positions_in_walls"] == 0
    assert there.record["choices"]["positions_in_walls"] == 0.2  # (4, 0) of five.
    elsewhere.check_same_transitions(here, there)
    # Relabelled rewards are those of the evaluation's goal: other transitions.
    there = load(mirrored, maze_walls="evaluation")
    np.testing.assert_array_equal(there.transitions.rewards, [1, 0, 0, 0])
    with pytest.raises(ValueError, match="rewards of iql/antmaze-mirrored/umaze-v0 differ"):
        elsewhere.check_same_transitions(load("iql/antmaze-waiting/umaze-v0"), there)


def test_a_policy_is_evaluated_in_the_mirrored_maze(umaze, tmp_path):
    own = tiny_run(tmp_path / "stored" / "run", maze_goal="stored", maze_walls="data")
    assert bench.train_together([own]) == []
    elsewhere.evaluate_elsewhere(own, mirrored_umaze.make_mirrored("umaze"))
    found = elsewhere.elsewhere(own)
    assert (found["update"], found["dataset"]) == (2, "iql/antmaze-mirrored/umaze-v0")
    assert (found["positions_in_walls"], found["episodes"]) == (0.2, 1)
    relabelled = tiny_run(tmp_path / "relabelled" / "run")
    assert bench.train_together([relabelled]) == []
    with pytest.raises(ValueError, match="rewards of iql/antmaze-mirrored/umaze-v0 differ"):
        elsewhere.evaluate_elsewhere(relabelled, "iql/antmaze-mirrored/umaze-v0")


def test_runs_are_trained_together(umaze, tmp_path, capsys):
    runs = tmp_path / "runs"
    cloning = tiny_run(runs / "bc-seed0", temperature=0.0)
    broken = tiny_run(runs / "broken-seed0", value_lr=1e30, critic_lr=1e30)
    assert bench.train_together([tiny_run(runs / "iql-seed0"), cloning, broken]) == [broken]
    assert cloning.is_finished()
    assert cloning.record()["config"]["temperature"] == 0.0
    members = read_members(runs / "members.csv")
    assert [(row["member"], row["temperature"]) for row in members[:2]] == [
        ("iql-seed0", "10.0"),
        ("bc-seed0", "0.0"),
    ]
    with pytest.raises(SystemExit):
        bench.finish([broken])
    assert "broken-seed0 failed: " in capsys.readouterr().err


def test_the_mirrored_dataset_is_made_again_when_the_data_are(umaze):
    mirrored = mirrored_umaze.make_mirrored("umaze")
    target = umaze.parent.parent / "antmaze-mirrored" / "umaze-v0"
    before = (target / "data" / "metadata.json").stat().st_mtime_ns
    assert mirrored_umaze.make_mirrored("umaze") == mirrored
    assert (target / "data" / "metadata.json").stat().st_mtime_ns == before
    for file in sorted(umaze.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    umaze.rmdir()
    write_umaze(turns=2)
    mirrored_umaze.make_mirrored("umaze")
    assert load(mirrored, maze_walls="evaluation").transitions.size == 9
    assert not list(umaze.parent.parent.parent.glob(".making-*"))


# The speed of things.


def test_ratios_are_of_what_one_repeat_timed():
    # The machine slowed down to a half; the contenders' ratio stayed.
    assert medians.ratio([100.0, 60.0, 50.0], [50.0, 20.0, 25.0]) == "2.00 (2.00 to 3.00)"


THROUGHPUT = """
import json, sys
from absl import flags
import throughput
flags.FLAGS(["", f"--peers={sys.argv[1]}", "--updates=70", "--repeats=2"])
rates = {"one run": [30.0, 20.0], "unifloral": [15.0, 20.0], "matrix product": [40.0, 50.0]}
figures = {name: [{"rate": rate} for rate in of_repeats] for name, of_repeats in rates.items()}
result = throughput.summarize(figures)
print(json.dumps([result, throughput.table(result)]))
"""


def test_the_limit_is_for_our_update_and_peers_are_named(tmp_path):
    checkout = tmp_path / "unifloral"
    git = ["git", "-C", str(checkout), "-c", "user.name=x", "-c", "user.email=x"]
    subprocess.run(["git", "init", "-q", str(checkout)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'benchmarks'}:{ROOT}"}
    result, table = json.loads(
        subprocess.run(
            [sys.executable, "-c", THROUGHPUT, str(tmp_path)],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    assert (result["updates"], result["repeats"]) == (70, 2)
    ours, theirs = result["contenders"]["one run"], result["contenders"]["unifloral"]
    assert ours["share_of_limit"] == pytest.approx(25 / 45)
    assert theirs == {"rates": [15, 20], "rate": 17.5, "commit": head.strip()}
    shown = {row[0]: row[1:] for row in rows(table)}
    assert shown["one run"][:4] == ["25", "20 to 30", "15", "56%"]
    assert shown["unifloral"][:4] == ["18", "15 to 20", "", ""]
    assert table.endswith("One run is 1.50 (1.00 to 2.00) x unifloral.")


def test_the_wall_time_of_a_run_is_told_apart(tmp_path):
    summary = {
        "training_seconds": 80.0,
        "eval_seconds": 10.0,
        "load_seconds": 3.0,
        "compile_seconds": 2.0,
        "wall_seconds": 100.0,
        "updates": 5_000,
        "dataset": {"id": "test/maze-v0"},
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    shown = subprocess.run(
        [sys.executable, "benchmarks/timings.py", f"--run={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "| test/maze-v0, 5,000 updates | seconds | share |" in shown
    assert "| updates | 80.0 | 80.0 % |" in shown
    assert "| loading and compiling | 5.0 | 5.0 % |" in shown
    assert "| imports, logging, saving, pictures | 5.0 | 5.0 % |" in shown
