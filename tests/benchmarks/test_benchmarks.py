"""What benchmarks share: schedules of runs, pictures, and the timing of things."""

import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from benchmark_runs import ROOT, a_run, rows, run_script, write_run

import commands
import counts
import curves
import medians
import runs as bench
from iql_jax.outputs import plots

# The schedule.


def fake(run):
    """A command that finishes a run, or fails if the run says so."""
    script = (
        "import sys; from pathlib import Path\n"
        "folder, fails, record = Path(sys.argv[1]), sys.argv[2] == 'True', sys.argv[3]\n"
        "print('log of', folder.name)\n"
        "sys.exit('no luck') if fails else None\n"
        "folder.mkdir()\n"
        "(folder / 'config.json').write_text(record)\n"
        "(folder / 'summary.json').write_text('{\"score\": 1.0}')"
    )
    fails = str(run.settings.get("fails", False))
    record = json.dumps({"config": run.wanted()})
    return [sys.executable, "-c", script, str(run.folder), fails, record]


def test_a_script_of_the_benchmarks_finds_the_config_files(tmp_path):
    code = f"""
        import sys
        sys.path[0] = {str(ROOT / "benchmarks")!r}  # As for a script there; not ours.
        import runs
        run = runs.Run(runs.Path("r"), "configs/antmaze.py", {{"expectile": 0.8}})
        print(run.read_config().temperature, run.read_config().expectile)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    printed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert printed.stdout == "10.0 0.8\n"


def test_finished_runs_are_skipped_and_a_failure_stops_no_other(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "_POLL_SECONDS", 0.02)
    write_run(tmp_path / "done", [1.0], seed=5)
    done = a_run(tmp_path / "done", seed=5, max_steps=400)
    bad, good = a_run(tmp_path / "bad", fails=True), a_run(tmp_path / "good", seed=5)
    started = []

    def command(run):
        started.append(run.folder.name)
        return fake(run)

    assert bench.run_all([done, bad, good], 1, command) == [bad]
    assert started == ["bad", "good"]
    errors = capsys.readouterr().err
    assert "bad failed" in errors
    assert "  log of bad\n  no luck" in errors
    assert good.is_finished()
    assert not done.log.exists()
    assert bench.run_all([done, good], 2, command) == []
    assert started == ["bad", "good"]
    with pytest.raises(SystemExit) as ended:
        bench.finish([bad])
    assert ended.value.code == 1
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

    done = a_run(tmp_path / "done", dataset="a/done-v0", max_steps=400)
    assert bench.run_all([done, *new], 2, command) == []
    assert happened == ["a/x-v0", "a/y-v0", "x1", "x2", "y1"]


def test_a_run_with_other_settings_is_not_the_one_asked_for(tmp_path):
    write_run(tmp_path / "run", [1.0], updates=400)
    assert a_run(tmp_path / "run", max_steps=400).is_finished()
    assert not a_run(tmp_path / "run", max_steps=500).is_finished()
    assert not a_run(tmp_path / "run", max_steps=400, top_episodes=0.1).is_finished()
    # Its config file's settings count as much as what is overridden.
    assert not a_run(tmp_path / "run").is_finished()
    write_run(tmp_path / "edited", [1.0], temperature=3.0)
    assert not a_run(tmp_path / "edited", max_steps=400).is_finished()
    # Not what changes no number.
    write_run(tmp_path / "shown", [1.0], progress=False, log_interval=7)
    assert a_run(tmp_path / "shown", max_steps=400).is_finished()
    # Keys that came after the run have their defaults.
    record = a_run(tmp_path / "run").record()
    del record["config"]["top_episodes"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(record))
    assert a_run(tmp_path / "run", max_steps=400).is_finished()
    assert not a_run(tmp_path / "run", max_steps=400, top_episodes=0.1).is_finished()


def test_how_far_a_run_is(tmp_path):
    assert a_run(tmp_path / "none").share_done() == 0
    write_run(tmp_path / "run", [1.0], updates=400, summary=False)
    (tmp_path / "run" / "metrics.csv").write_text("update,v\n100,-1.0\n300,-2.0\n35")
    assert a_run(tmp_path / "run").share_done() == 0.75
    assert a_run(tmp_path / "run").summary() is None
    # Where it began is not to be told once the run that it goes on from is gone.
    write_run(tmp_path / "online", [1.0], summary=False, offline_run=str(tmp_path / "gone"))
    assert a_run(tmp_path / "online").share_done() == 0


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
    assert texts == ["IQL, mean over seeds", curves.RANGE, "BC", "paper"]
    assert [axes.get_title(loc="left") for axes in (one, two)] == ["one (1 seed)", "two (2 seeds)"]


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
    result, table = json.loads(run_script(THROUGHPUT, str(tmp_path)))
    assert (result["updates"], result["repeats"]) == (70, 2)
    ours, theirs = result["contenders"]["one run"], result["contenders"]["unifloral"]
    assert ours["share_of_limit"] == pytest.approx(25 / 45)
    assert theirs == {"rates": [15, 20], "rate": 17.5, "commit": head.strip()}
    shown = {row[0]: row[1:] for row in rows(table)}
    assert shown["one run"][:4] == ["25", "20 to 30", "15", "56%"]
    assert shown["unifloral"][:4] == ["18", "15 to 20", "", ""]
    assert table.endswith("One run is 1.50 (1.00 to 2.00) x unifloral.")


FINETUNE_SPEED = """
import sys
from pathlib import Path
from absl import flags
import commands
import finetune_speed
flags.FLAGS(["", "--timed=100"])
ROWS = {"updates": [1, 20, 30], "steps": [1, 12, 6]}


def write_metrics(command, name, folder):
    given = dict(word.removeprefix("--config.").split("=") for word in command if "=" in word)
    print(given["num_envs"], given["log_interval"], given["num_pretraining_steps"])
    lines = ["step,updates_per_second,env_steps_per_second"]
    lines += [f"0,{rate}," for rate in ROWS["updates"]]
    lines += [f"0,{rate},{rate}" for rate in ROWS["steps"]]
    (Path(sys.argv[1]) / "metrics.csv").write_text("\\n".join([*lines, ""]))


commands.output_of = write_metrics
task = finetune_speed.TASKS["antmaze-umaze"]
print(*finetune_speed.time_run(task, Path(sys.argv[1]), {"num_envs": 8, "train_freq": 1}))
"""


def test_an_online_phase_is_timed_without_the_first_rows_of_its_phases(tmp_path):
    printed = run_script(FINETUNE_SPEED, str(tmp_path)).splitlines()
    # A fifth of 100 steps, rounded up to a multiple of 8; six of them in each phase.
    assert printed[0] == "8 24 144"
    assert [float(rate) for rate in printed[1].split()] == pytest.approx([24, 8])


def test_counts_are_positive_numbers():
    for words in (["0"], ["x"], ["1", "", "2"], ["-1"], []):
        assert not counts._are_counts(words)
    assert counts._are_counts(["1", "16"])
    command = [sys.executable, "benchmarks/finetune_speed.py"]
    run = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=False)
    ended = run([*command, "--num_envs=1,x"])
    assert ended.returncode == 2
    assert "--num_envs are positive numbers with commas between them" in ended.stderr
    assert "--num_envs: Environments stepped at once" in run([*command, "--help"]).stdout


def test_a_command_that_fails_ends_the_benchmark(capsys):
    assert commands.output_of([sys.executable, "-c", "print('done')"], "it") == "done\n"
    failing = [sys.executable, "-c", "import sys; sys.exit('why')"]
    with pytest.raises(SystemExit, match=r"^it failed:\nwhy\n$"):
        commands.output_of(failing, "it")


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
    assert "| logging, saving | 5.0 | 5.0 % |" in shown
