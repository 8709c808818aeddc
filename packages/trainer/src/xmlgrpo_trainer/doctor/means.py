"""A logged series at first and now: means over a window, since single steps are noise."""

from collections.abc import Sequence
from statistics import fmean

WINDOW = 20  # logged steps that "now" and "at first" are means of


def now_of(values: Sequence[tuple[int, float]]) -> float:
    """The mean of the newest values of a series."""
    return fmean(value for _, value in values[-WINDOW:])


def ends_of(values: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Means at first and now; of a short series, of its halves, so that they never overlap."""
    width = max(1, min(WINDOW, len(values) // 2))
    return (
        fmean(value for _, value in values[:width]),
        fmean(value for _, value in values[-width:]),
    )
