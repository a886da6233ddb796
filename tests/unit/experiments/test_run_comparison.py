"""Differences, their intervals, and what they say of a claim."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from scipy.stats import ttest_ind

from experiments.run_comparison import Difference, Result, image_interval, standard_error
from tests.unit.experiments.run_builders import result, write_run


def rows(first, second, spread=0.0):
    """Two rows of results."""
    return [result(AP) for AP in first], [result(AP, spread=spread) for AP in second]


def test_the_interval_over_seeds_is_students():
    first, second = (0.20, 0.22, 0.21), (0.25, 0.23)
    found = Difference.between(*rows(first, second))
    expected = ttest_ind(second, first).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(statistics.mean(second) - statistics.mean(first))


def test_the_interval_over_images_is_the_bootstraps():
    first, second = rows([0.2], [0.3], spread=0.04)
    assert image_interval(first, second) == pytest.approx((0.1 - 0.038, 0.1 + 0.038))


def test_what_images_share_cancels():
    first, second = ([result(AP, spread=0.1)] for AP in (0.2, 0.3))
    assert image_interval(first, second) == pytest.approx((0.1, 0.1))


def test_seeds_average_out_over_images():
    """The mean over seeds is drawn, not each seed."""
    up, down = result(0.3, spread=0.04), result(0.3, spread=-0.04)
    assert image_interval([result(0.2)], [up, down]) == pytest.approx((0.1, 0.1))


def test_both_intervals_add_as_squares():
    narrow = Difference.between(*rows((0.20, 0.22), (0.30, 0.32)))
    wide = Difference.between(*rows((0.20, 0.22), (0.30, 0.32), spread=0.1))
    assert narrow.interval is not None and wide.interval is not None
    half, both = (np.ptp(each.interval) / 2 for each in (narrow, wide))
    assert both**2 == pytest.approx(half**2 + 0.095**2)


def test_one_seed_each_has_no_interval():
    found = Difference.between(*rows([0.1], [0.3]))
    assert (found.standard_error, found.interval) == (None, None)
    assert found.verdict(0.1) == "undecided"
    assert str(found) == "+0.2000 (1 and 1 seeds; over images alone +0.2000 to +0.2000)"


def test_one_seed_beside_several_takes_their_spread():
    assert standard_error([0.1, 0.3], [0.5]) == pytest.approx((0.02 * 1.5) ** 0.5)


@pytest.mark.parametrize(
    ("second", "at_least", "verdict"),
    [
        ((0.300, 0.302, 0.298), 0.01, "confirmed"),
        ((0.100, 0.102, 0.098), 0.01, "contradicted"),
        ((0.199, 0.201, 0.200), 0.01, "not seen"),  # the interval is within the point claimed
        ((0.180, 0.220, 0.200), 0.01, "undecided"),  # it reaches beyond
        ((0.199, 0.201, 0.200), 0.0, "undecided"),  # any gain at all is claimed
    ],
)
def test_verdicts(second, at_least, verdict):
    found = Difference.between(*rows((0.200, 0.201, 0.199), second))
    assert found.verdict(at_least) == verdict


def test_that_beginners_are_alike_is_no_finding():
    found = Difference.between(*rows((0.020, 0.021, 0.019), (0.019, 0.021, 0.020)))
    assert found.verdict(0.01) == "undecided"


def test_as_text():
    found = Difference.between(*rows((0.20, 0.22), (0.30, 0.32)))
    assert str(found) == "+0.1000 (+7.1 se, 2 and 2 seeds; 95 %: +0.0392 to +0.1608)"


def test_equal_seeds_have_no_error():
    assert "inf se" in str(Difference.between(*rows((0.2, 0.2), (0.3, 0.3))))


def test_a_run_is_read(tmp_path):
    write_run(tmp_path / "run", 0.25, seconds=3.0, memory=80.0)
    found = Result.read(tmp_path / "run")
    assert (found.epoch_seconds, found.peak_memory_mb) == (3.0, 80.0)  # not the first, untimed one
    assert found.figures["AP50"] == 0.5 and found.draws[0] == 0.25


def test_a_run_without_times_is_read(tmp_path):
    """As that of another program, or whose epochs were not noted."""
    write_run(tmp_path / "run", 0.25)
    for name in ("epochs.jsonl", "report.json"):
        (tmp_path / "run" / name).unlink()
    found = Result.read(tmp_path / "run")
    assert (found.epoch_seconds, found.peak_memory_mb) == (None, None)
