"""Figure 3 of the paper, with made-up training: a population from command to table."""

import csv
import json
import signal

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

import figure3
from iql_jax import cli
from iql_jax.populations import plots as population_plots
from iql_jax.populations import run as offline_sweep
from iql_jax.populations.scores import Setting
from iql_jax.utils.signals import Interrupted

EXPECTILES = ["0.5", "0.6", "0.7", "0.8", "0.9", "0.95"]


@pytest.fixture
def lost():
    """The names of members that fail."""
    return set()


@pytest.fixture
def trained(monkeypatch, lost):
    """The members that were trained; their success is 100 times the expectile, plus the seed."""
    members = []

    def train_population(population):
        for member, folder in zip(population.members, population.folders, strict=True):
            if member.name in lost:
                folder.mkdir()
                (folder / "failure.json").write_text('{"reason": "v is not finite"}')
                continue
            write_run(folder, member.config)
            members.append(member)

    monkeypatch.setattr(offline_sweep, "train_population", train_population)
    for picture in ("curves", "sweep"):  # The population's own.
        monkeypatch.setattr(population_plots, picture, lambda *_: None)
    return members


def write_run(folder, config):
    folder.mkdir(parents=True)
    facts = {"run_id": "", "dataset": {}, "versions": {"iql_jax": "0.2.0"}, "device": ""}
    (folder / "config.json").write_text(json.dumps({**facts, "config": config.to_dict()}))
    score = 100 * config.expectile + config.seed
    evaluation = f"{config.max_steps},{score},{score / 100}\n"
    (folder / "evaluations.csv").write_text(f"update,score,return_mean\n{evaluation}")
    (folder / "summary.json").write_text("{}")


def run(folder, *arguments):
    """The exit status of the script, 0 where it comes to its end."""
    words = ["--out", f"{folder / 'out'}", "--runs", f"{folder / 'runs'}", *arguments]
    try:
        return cli.guard(lambda: figure3.main(words))
    except SystemExit as ended:
        return ended.code


def table(folder):
    with (folder / "out" / "figure3.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_expectile_and_a_population_of_all_seeds(trained, tmp_path):
    assert run(tmp_path, "--seeds", "2", "--updates", "400") == 0
    members = json.loads((tmp_path / "runs" / "population.json").read_text())["populations"]
    assert members == [[f"expectile_{tau}-seed_{seed}" for tau in EXPECTILES for seed in (0, 1)]]
    for member in trained:
        config = member.config
        assert config.reward_transform == "minus_one"  # Of the config file.
        assert config.temperature == 3.0  # Of the figure.
        assert config.dataset == "iql/pointmaze/large-v0"
        assert (config.max_steps, config.eval_interval, config.eval_episodes) == (400, 400, 50)
    made = table(tmp_path)
    assert [row["expectile"] for row in made] == EXPECTILES
    # Two seeds have a range, and no interval.
    assert made[-1] == {
        "expectile": "0.95", "success": "95.5000", "low": "95.0000", "high": "96.0000",
        "seeds": "95 96", "updates": "400",
    }  # fmt: skip
    assert matplotlib.image.imread(tmp_path / "out" / "figure3.png").std() > 0.05


def test_the_same_command_trains_what_is_missing(trained, tmp_path, capsys):
    assert run(tmp_path, "--seeds", "1") == 0
    assert [member.config.seed for member in trained] == [0] * 6
    assert run(tmp_path, "--seeds", "2") == 0
    assert [member.config.seed for member in trained[6:]] == [1] * 6
    assert run(tmp_path, "--seeds", "2") == 0
    assert len(trained) == 12
    assert [row["seeds"] for row in table(tmp_path)][:2] == ["50 51", "60 61"]
    # Runs of another budget are no part of this figure.
    capsys.readouterr()
    assert run(tmp_path, "--seeds", "2", "--updates", "400") == 1
    said = capsys.readouterr().err
    assert "expectile_0.5-seed_0 belongs to a run with other settings" in said
    assert "max_steps 50000 -> 400" in said
    assert len(trained) == 12


def test_members_that_fail_are_named_each_time(trained, lost, tmp_path, capsys):
    lost.add("expectile_0.7-seed_1")
    for _ in range(2):  # What has failed is not trained again.
        assert run(tmp_path, "--seeds", "2") == 1
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith("1 of 12 members have failed (expectile_0.7-seed_1); ")
        assert len(trained) == 11
    assert [row["seeds"] for row in table(tmp_path)][1:3] == ["60 61", "70"]


def test_the_papers_own_task():
    task = "iql/antmaze/medium-play-v0"
    options = ["--out", "x", "--config", "antmaze", "--dataset", task, "--temperature", "10"]
    config = figure3.base(figure3.parse(options))
    assert config.dataset == task
    assert config.maze_drop == "waiting"
    assert config.temperature == 10.0


def test_a_stop_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def stop(population):
        raise Interrupted(signal.SIGTERM, "stopped at update 10; saved", resumable=True)

    monkeypatch.setattr(offline_sweep, "train_population", stop)
    assert run(tmp_path) == 128 + signal.SIGTERM
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("stopped at update 10; saved; resume with: ")
    assert not (tmp_path / "out").exists()


def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys):
    assert run(tmp_path, "--seeds", "0") == 1
    assert capsys.readouterr().err == "config.num_seeds is 0; it must be at least 1\n"
    monkeypatch.setattr(offline_sweep, "train_population", lambda population: None)
    assert run(tmp_path) == 1
    assert "no run has come to its end with a score" in capsys.readouterr().err


def test_the_last_evaluation_is_drawn_and_every_seed_is_a_dot():
    found = [
        Setting({"expectile": 0.5}, np.array([10, 20]), np.array([[90.0, 10.0], [80.0, 30.0]])),
        Setting({"expectile": 0.9}, np.array([10, 20]), np.array([[0.0, 100.0], [0.0, 100.0]])),
    ]
    axes = Figure().add_subplot()
    figure3.draw(axes, found)
    mean, *_, low_dots, high_dots = (line.get_xydata().tolist() for line in axes.lines)
    assert mean == [[0.5, 20], [0.9, 100]]
    left, right = 0.5 + figure3.DOTS_ASIDE, 0.9 + figure3.DOTS_ASIDE
    assert (low_dots, high_dots) == ([[left, 10], [left, 30]], [[right, 100], [right, 100]])
    (bars,) = axes.collections
    segments = [segment.tolist() for segment in bars.get_segments()]
    assert segments == [[[0.5, 10], [0.5, 30]], [[0.9, 100], [0.9, 100]]]


@pytest.mark.parametrize(
    ("seeds", "name"),
    [
        ((2, 2), "mean, range of the seeds"),
        ((3, 3), "mean, 95 % interval (Student's t)"),
        ((3, 2), "mean, 95 % interval (Student's t) or range of the seeds"),  # A member has failed.
    ],
)
def test_the_bars_are_named_for_what_they_are(seeds, name):
    scores = np.array([[10.0], [30.0], [40.0]])
    found = [
        Setting({"expectile": tau}, np.array([10]), scores[:count])
        for tau, count in zip((0.5, 0.9), seeds, strict=True)
    ]
    axes = Figure().add_subplot()
    figure3.draw(axes, found)
    assert name in axes.get_legend_handles_labels()[1]
