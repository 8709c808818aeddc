"""`metrics.jsonl` read with tolerance: a killed run leaves half a line, a resumed one repeats."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from xmlgrpo_rewards.errors import UserError

WINDOW = 20  # logged steps that "now" and "at first" are means of


@dataclass(frozen=True, slots=True)
class MetricsLog:
    """The logged steps of a run, in order.

    Attributes:
        rows: step -> what was logged of it; of a repeated key the last value.
        broken_lines: numbers of lines that hold no step, but for a half-written last one.
    """

    rows: Mapping[int, Mapping[str, Any]]
    broken_lines: tuple[int, ...]

    def series(self, name: str) -> list[tuple[int, float]]:
        """(step, value) wherever `name` was logged as a finite number."""
        return [
            (step, float(row[name]))
            for step, row in self.rows.items()
            if _is_number(row.get(name)) and math.isfinite(row[name])
        ]

    def not_finite(self, name: str) -> list[int]:
        """Steps at which `name` was logged, but not as a finite number."""
        return [
            step
            for step, row in self.rows.items()
            if name in row and not (_is_number(row[name]) and math.isfinite(row[name]))
        ]

    def names(self) -> set[str]:
        """Everything that was ever logged."""
        return {name for row in self.rows.values() for name in row}


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


def read_log(path: Path) -> MetricsLog:
    """Read a run's metrics.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(
            f"cannot read {str(path)!r} ({error.strerror}); expected the folder of a run that has "
            "logged a step"
        ) from None
    rows: dict[int, dict[str, Any]] = {}
    broken = []
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is not None:
            step = row["step"]
            rows[step] = rows.get(step, {}) | row
        elif line.strip() and number < len(lines):
            broken.append(number)
    return MetricsLog({step: rows[step] for step in sorted(rows)}, tuple(broken))


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(row, dict) and type(row.get("step")) is int and row["step"] >= 0
    return row if known else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
