"""The report of a population: scores by setting, their intervals, the table, the pictures."""

import csv
import dataclasses

import numpy as np
import pytest

from iql_jax.populations import report
from iql_jax.populations.report import Setting, settings
from iql_jax.populations.sweep import members_of
from iql_jax.training.config import from_mapping

CONFIG = from_mapping({"dataset": "toy/toy-v0", "seed": 5})


def setting(scores):
    return Setting({"expectile": 0.5}, np.array([10, 20]), np.array(scores))


# Of three seeds: mean 2, standard error 1 / sqrt(3), and 4.3027 from the table of Student's t.
@pytest.mark.parametrize(
    ("scores", "low", "high"),
    [
        ([[1.0, 4.0]], [1, 4], [1, 4]),
        ([[1.0, 4.0], [3.0, 2.0]], [1, 2], [3, 4]),  # Their range.
        ([[1.0, 4.0], [2.0, 4.0], [3.0, 4.0]], [-0.4841, 4], [4.4841, 4]),
    ],
)
def test_the_interval_of_a_setting(scores, low, high):
    np.testing.assert_allclose(setting(scores).interval(), [low, high], atol=1e-4)


def test_two_swept_keys_make_a_grid(monkeypatch):
    figures = []
    monkeypatch.setattr(report, "save", lambda figure, path: figures.append(figure))
    found = [
        Setting({"tau": tau, "discount": discount}, np.array([10]), np.array([[score]]))
        for tau, discount, score in ((1, 1, 0.0), (1, 2, 1.0), (2, 1, 2.0))
    ]
    report.draw_sweep("", found, "score", "a title")
    (image,) = figures[0].axes[0].images
    np.testing.assert_array_equal(image.get_array().filled(-1), [[0, 1], [2, -1]])


def write_run(workdir, member, score):
    folder = workdir / member.name
    folder.mkdir(parents=True)
    cell, rate = ("", 0.5) if score is None else (score, score / 100)
    (folder / "evaluations.csv").write_text(
        f"update,score,return_mean,success_rate\n10,{cell},5.0,{rate}\n20,{cell},3.0,{rate}\n"
    )
    (folder / "summary.json").write_text("{}")


def test_a_setting_is_of_finished_members_with_scores(tmp_path):
    members = members_of(dataclasses.replace(CONFIG, num_seeds=2), [{"tau": 0.1}, {"tau": 0.2}])
    for member, score in zip(members[:3], (10.0, 30.0, None), strict=True):
        write_run(tmp_path, member, score)
    (found,) = settings(tmp_path, members, "score")
    assert found.values == {"tau": 0.1}
    assert (found.steps.tolist(), found.scores.tolist()) == ([10, 20], [[10, 10], [30, 30]])
    assert found.most == 100.0


def test_a_score_that_is_no_success_rate_has_no_end():
    assert report.greatest_score([{"score": 30.0, "success_rate": 0.3}]) == 100.0
    assert report.greatest_score([{"score": 103.0, "success_rate": 0.9}]) == np.inf
    assert report.greatest_score([{"score": 30.0, "success_rate": None}]) == np.inf


def test_the_report_has_a_table_and_two_pictures(tmp_path):
    members = members_of(dataclasses.replace(CONFIG, num_seeds=2), [{"tau": 0.1}, {"tau": 0.2}])
    for member in members[:3]:
        write_run(tmp_path, member, None)
    (tmp_path / members[3].name).mkdir()
    (tmp_path / members[3].name / "failure.json").write_text(
        '{"update": 5, "reason": "not finite"}'
    )
    rows = report.write(tmp_path, members)
    with (tmp_path / "members.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["member"] for row in written] == [member.name for member in members]
    assert [(row["tau"], row["seed"]) for row in written[1:3]] == [("0.1", "6"), ("0.2", "5")]
    assert (rows[0]["return_mean"], rows[0]["best_return"], rows[0]["score"]) == (3.0, 5.0, None)
    assert [(row["status"], row["failure"]) for row in written[2:]] == [
        ("finished", ""), ("failed", "not finite"),
    ]  # fmt: skip
    for picture in ("learning_curve.png", "sweep.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
