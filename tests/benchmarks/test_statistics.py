"""Medians and ratios pair by pair."""
import pytest

from benchmarks import statistics


def test_summary_is_median_least_and_greatest():
    assert statistics.summarize([3.0, 1.0, 2.0]) == statistics.Summary(2.0, 1.0, 3.0)


def test_ratios_are_taken_within_each_round():
    # The ratio of the medians would be 1; the machine was slow in the second round for both.
    assert statistics.ratios([2.0, 20.0, 4.0], [1.0, 4.0, 8.0]) == statistics.Summary(2.0, 0.5, 5.0)


def test_ratios_use_the_rounds_that_both_have():
    assert statistics.ratios([2.0, 6.0, 100.0], [1.0, 2.0]) == statistics.Summary(2.5, 2.0, 3.0)


@pytest.mark.parametrize("reference, samples", [([], [1.0]), ([1.0], []), ([1.0], [0.0])])
def test_no_ratio_without_pairs_or_of_zero(reference, samples):
    assert statistics.ratios(reference, samples) is None
