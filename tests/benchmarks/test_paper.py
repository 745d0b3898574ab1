"""The scripts of benchmarks/paper: exact solutions, what they write, and what their tables show."""

import csv
import math
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

import exhibit
import extrapolation
import figure1
import figure2
import lucky_sample

RESULTS = Path(__file__).parents[2] / "benchmarks/results/paper"
SCRIPTS = {
    "figure1": figure1,
    "figure2": figure2,
    "lucky_sample": lucky_sample,
    "extrapolation": extrapolation,
}


def test_what_is_no_number_is_shown_as_such():
    shown = [exhibit._shown(value) for value in (math.nan, -1e-9, 0.12345, 3)]
    assert shown == ["nan", "0.0000", "0.1235", "3"]


# What needs no training: the columns, and the rows where only some are exact.
EXACT = {
    "figure1": {"normal", "normal_exact"},
    "figure2": {"value_at_start", "mean_error_percent", "max_error_percent", "success"},
    "lucky_sample": {"true_q_gamble", "exact_q_gamble", "exact_v"},
    "extrapolation": {"optimal_mean"},
}
EXACT_ROWS = {"figure2": ["optimal"]}

# What is learned, and which rows learn it in different ways: after a few updates already they have
# come to different numbers.
LEARNED = {
    "figure2": ("value_at_start", slice(1, None)),
    "lucky_sample": ("learned_q_gamble", slice(6, None, 7)),  # At the highest expectile.
    "extrapolation": ("mean_q", slice(None)),
}


pytestmark = pytest.mark.usefixtures("data_folders")


def table(name, folder=RESULTS):
    with (folder / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {next(iter(row.values())): row for row in rows}, rows


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_writes_the_picture_and_the_table_that_are_shown(name, tmp_path):
    assert SCRIPTS[name].main(["--out", str(tmp_path / "out"), "--updates", "250"]) == 0
    _, made = table(name, tmp_path / "out")
    _, shown = table(name)
    assert [list(row) for row in made] == [list(row) for row in shown]
    first = next(iter(shown[0]))
    assert [row[first] for row in made] == [row[first] for row in shown]
    for fresh, committed in zip(made, shown, strict=True):
        if fresh[first] in EXACT_ROWS.get(name, [fresh[first]]):
            for column in EXACT[name]:
                expected = pytest.approx(float(committed[column]), abs=2e-4)
                assert float(fresh[column]) == expected, (fresh[first], column)
    if name in LEARNED:
        column, rows = LEARNED[name]
        learned = [row[column] for row in made[rows]]
        assert len(set(learned)) == len(learned) > 1
    if name == "figure1":
        assert_fits_the_plane(made, within=0.1, the_last_within=0.5)  # After 250 updates.
    picture = matplotlib.image.imread(tmp_path / "out" / f"{name}.png")
    assert picture.std() > 0.05
    assert (RESULTS / f"{name}.png").stat().st_size < 100_000


def test_expectiles_of_a_normal_are_exact():
    sample = figure1.normal_sample()
    for expectile in (0.1, *figure1.EXPECTILES):
        m = figure1.integrated_expectile(expectile)
        # The defining equation in closed form: E[(X - m)+] = pdf(m) - m (1 - cdf(m)).
        pdf, cdf = math.exp(-(m**2) / 2) / math.sqrt(2 * math.pi), (1 + math.erf(m / 2**0.5)) / 2
        above, below = pdf - m * (1 - cdf), pdf + m * cdf
        assert expectile * above == pytest.approx((1 - expectile) * below, abs=1e-8)
        assert float(figure1.minimised_expectile(expectile, sample)) == pytest.approx(m, abs=1e-3)


def assert_fits_the_plane(rows, within, the_last_within):
    for row in rows:
        assert float(row["normal"]) == pytest.approx(float(row["normal_exact"]), abs=1e-3)
    *errors, last = [float(row["plane_mean_error_in_std"]) for row in rows]
    assert max(errors) < within
    assert last < the_last_within  # The expectile 0.99, which takes longest.


def test_the_table_that_is_shown_of_figure_1_fits_the_plane():
    assert_fits_the_plane(table("figure1")[1], within=0.05, the_last_within=0.1)


def test_the_table_that_is_shown_of_figure_2_has_iql_near_the_optimum_and_one_step_far():
    rows, _ = table("figure2")
    error = {name: float(row["mean_error_percent"]) for name, row in rows.items()}
    success = {name: float(row["success"]) for name, row in rows.items()}
    assert error["IQL"] < 10
    assert error["one-step evaluation"] > 4 * error["IQL"]
    assert error["SARSA"] > 4 * error["IQL"]
    assert success["IQL"] > 0.99
    assert success["one-step evaluation"] < success["IQL"]


def test_the_fixed_points_of_the_gamble_by_hand():
    # The 0.9-expectile of a coin with chance 0.1: 0.09 / (0.09 + 0.09).
    gamble, value = lucky_sample.exact("expectile_sarsa", np.array([0.9]))
    assert gamble[0] == pytest.approx(0.5)
    assert value[0] == pytest.approx(0.9 * 0.5 + 0.1 * 0.3)
    gamble, value = lucky_sample.exact("iql", np.array([0.9]))
    assert gamble[0] == pytest.approx(0.1)
    assert value[0] == pytest.approx(0.9 * 0.3 + 0.1 * 0.1)


def test_the_gambles_data_have_the_true_proportions():
    data = lucky_sample.dataset()
    first = data.observations[:, lucky_sample.START] == 1
    gambles = first & (data.actions[:, lucky_sample.GAMBLE] == 1)
    assert gambles.sum() == first.sum() / 2
    wins = data.next_observations[gambles, lucky_sample.WIN]
    assert wins.mean() == pytest.approx(lucky_sample.WIN_PROBABILITY)
    np.testing.assert_array_equal(data.masks, first)
    np.testing.assert_array_equal(data.next_action_masks, first)


def test_in_the_table_that_is_shown_only_expectile_sarsa_falls_for_luck():
    for row in table("lucky_sample")[1]:
        for name in ("q_gamble", "v"):
            assert float(row[f"learned_{name}"]) == pytest.approx(
                float(row[f"exact_{name}"]), abs=0.05
            )
        lucky = row["objective"] == "expectile_sarsa" and float(row["expectile"]) >= 0.9
        assert row["prefers"] == ("gamble" if lucky else "safe")


def test_the_optimal_value_of_the_line_by_hand():
    # At the origin 1 forever; from 0.15 first 0.95, then 1 forever.
    assert extrapolation.optimal_mean(np.zeros(3)) == pytest.approx(20, abs=1e-6)
    assert extrapolation.optimal_mean(np.array([0.15])) == pytest.approx(0.95 + 19, abs=1e-3)


def test_in_the_table_that_is_shown_q_learning_leaves_the_ground_and_iql_does_not():
    rows, _ = table("extrapolation")
    times = {name: float(row["times_optimal"]) for name, row in rows.items()}
    assert 0.5 < times["IQL"] < 1.05
    assert times["Q-learning, uniform"] > 5
    assert times["Q-learning, policy"] > 5
