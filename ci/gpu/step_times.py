"""How long a run's steps took, from one row of its log to the next."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

WARM_STEPS = 2  # the first ones compile, capture, plan and fill caches


def whole_steps(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Seconds of every step but the first, with all that is between two steps."""
    return [after["time"] - before["time"] for before, after in pairwise(rows)]


def steady_step(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The median of the steps after the warm ones; None when there are none."""
    steady = whole_steps(rows)[WARM_STEPS - 1 :]
    return median(steady) if steady else None
