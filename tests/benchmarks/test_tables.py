"""The benchmarks' statistics and tables."""

import pytest

from common import published, tables


@pytest.mark.parametrize(
    ("scores", "text"), [([], "-"), ([80.0], "80.0"), ([80.0, 90.0, 100.0], "90.0 ± 10.0")]
)
def test_mean_and_deviation(scores, text):
    assert tables.mean_std(scores) == text


def test_the_interval_is_students_and_within_the_bounds():
    # 10 / sqrt(3) times t(0.975, 2) = 4.3027 is 24.84.
    assert tables.interval([80.0, 90.0, 100.0]) == pytest.approx((65.16, 114.84), abs=0.01)
    assert tables.interval_text([80.0, 90.0, 100.0], tables.SUCCESS) == "65.2 to 100.0"


@pytest.mark.parametrize("scores", [[80.0], [80.0, 90.0], [100.0, 100.0, 100.0]])
def test_few_or_equal_seeds_have_no_interval(scores):
    assert tables.interval_text(scores) == "-"


def test_medians_and_ratios_over_repeats():
    assert tables.median_range([3.0, 1.0, 2.0], ".0f") == "2 (1 to 3)"
    assert tables.ratio([10.0, 30.0, 20.0], [10.0, 10.0, 5.0]) == "3.00 (1.00 to 4.00)"


def test_published_numbers_are_shown_as_their_sources_have_them():
    assert published.offline("antmaze-umaze") == ["87.5", "77.00 ± 5.52"]
    assert published.offline("kitchen-complete") == ["62.5", "-"]
    assert published.offline("pointmaze-umaze") == ["-", "-"]
    assert published.finetuning("antmaze-medium-play") == ["72 to 95", "71.75 to 89.75"]
    assert published.finetuning("antmaze-large-play") == ["25.5 to 46", "-"]
