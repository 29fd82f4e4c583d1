"""Medians of samples, and ratios pair by pair."""
from __future__ import annotations

import dataclasses
import statistics


@dataclasses.dataclass(frozen=True)
class Summary:
    """Median, least and greatest of some figures."""

    median: float
    least: float
    greatest: float


def summarize(figures):
    """Summary of a non-empty sequence of numbers."""
    return Summary(statistics.median(figures), min(figures), max(figures))


def ratios(reference, samples):
    """`reference[i] / samples[i]` for the samples that were taken one after the other.

    Summary, or None where there is no pair or a sample is zero.
    """
    pairs = list(zip(reference, samples))
    if not pairs or any(sample == 0 for _, sample in pairs):
        return None
    return summarize([first / second for first, second in pairs])
