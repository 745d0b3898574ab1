"""Figure 3 of the paper: a small population from command to table, repeated, refused, stopped."""

import csv
import json
import signal

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

import figure3
from iql_jax import offline_sweep
from iql_jax.collect.catalog import make
from iql_jax.interrupts import Interrupted
from iql_jax.population_scores import Setting

DATASET = "iql/pointmaze/umaze-v0"


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """A command of two members on a small dataset."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("IQL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(figure3, "EXPECTILES", (0.5, 0.95))
    named = {"out": tmp_path / "out", "runs": tmp_path / "runs", "dataset": DATASET}
    numbers = {"seeds": 1, "episodes": 2, "updates": 20}
    return [str(part) for key, value in (named | numbers).items() for part in (f"--{key}", value)]


def table(folder):
    with (folder / "figure3.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_command_trains_draws_and_is_not_repeated(arguments, tmp_path, monkeypatch, capsys):
    make(DATASET, steps=1_500, seed=0, progress=False)
    assert figure3.main(arguments) == 0
    made = table(tmp_path / "out")
    assert [row["expectile"] for row in made] == ["0.5", "0.95"]
    for row in made:
        run = tmp_path / "runs" / f"expectile_{row['expectile']}-seed_0"
        config = json.loads((run / "config.json").read_text())["config"]
        # Of the config file, and of the figure.
        assert (config["temperature"], config["reward_transform"]) == (10.0, "minus_one")
        assert (config["expectile"], config["seed"]) == (float(row["expectile"]), 0)
        summary = json.loads((run / "summary.json").read_text())
        assert (summary["updates"], summary["eval_episodes"]) == (20, 2)
        assert float(row["success"]) == float(row["low"]) == float(row["high"]) == summary["score"]
        assert row["updates"] == "20"
    assert matplotlib.image.imread(tmp_path / "out" / "figure3.png").std() > 0.05

    # The same command has nothing left to train; another budget is not what the folder holds.
    monkeypatch.setattr(offline_sweep, "train_population", lambda _: pytest.fail("trained again"))
    assert figure3.main(arguments) == 0
    assert table(tmp_path / "out") == made
    capsys.readouterr()
    assert figure3.main([*arguments, "--updates", "30"]) == 1
    said = capsys.readouterr().err
    assert "other settings" in said
    assert "max_steps 20 -> 30" in said


def test_a_stop_says_how_to_go_on(arguments, tmp_path, monkeypatch, capsys):
    def stopped(members, runs):
        assert [member.name for member in members] == [
            "expectile_0.5-seed_0",
            "expectile_0.95-seed_0",
        ]
        raise Interrupted(signal.SIGTERM, "SIGTERM at update 10; saved", resumable=True)

    monkeypatch.setattr(figure3, "train_sweep", stopped)
    assert figure3.main(arguments) == 128 + signal.SIGTERM
    assert "saved; the same command goes on from there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_mistake_is_one_line(arguments, capsys):
    assert figure3.main([*arguments, "--seeds", "0"]) == 1
    assert capsys.readouterr().err == "config.num_seeds is 0; it must be at least 1\n"


def test_the_last_evaluation_counts_and_every_seed_is_a_dot():
    steps = np.array([10, 20])
    found = [
        Setting({"expectile": 0.5}, steps, np.array([[90.0, 10.0], [80.0, 30.0]])),
        Setting({"expectile": 0.9}, steps, np.array([[0.0, 100.0], [0.0, 100.0]])),
    ]
    # Of two seeds the bootstrap draws 10, 20 or 30, the outer ones a quarter of the time each.
    assert figure3.row(found[0]) == {
        "expectile": "0.5", "success": 20.0, "low": 10.0, "high": 30.0, "seeds": "10 30",
        "updates": 20,
    }  # fmt: skip
    axes = Figure().add_subplot()
    figure3.draw(axes, found)
    mean, *_, low_dots, high_dots = (line.get_xydata().tolist() for line in axes.lines)
    assert mean == [[0.5, 20], [0.9, 100]]
    assert (low_dots, high_dots) == ([[0.5, 10], [0.5, 30]], [[0.9, 100], [0.9, 100]])
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["a seed", "mean, 95 % bootstrap interval"]
