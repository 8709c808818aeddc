"""`metrics.jsonl`: one JSON object a logged step, written line by line, read with tolerance.

A killed run leaves half a line, and a resumed run logs the steps after its checkpoint again.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.rows import MAX_ROW_BYTES, bounded_json
from xmlgrpo_run.disk import writing

MAX_LOG_LINES, MAX_LOG_BYTES = 500_000, 128 << 20  # a step's line has a thousand or two
LARGEST = 1e100  # what is larger is no measurement, and sums of it overflow


@dataclass(frozen=True, slots=True)
class MetricsLog:
    """The logged steps of a run, in order."""

    rows: Mapping[int, Mapping[str, Any]]  # step -> what was logged; of a repeated key the last
    broken_lines: tuple[int, ...]  # numbers of lines without a step, but for a torn last one

    def series(self, name: str) -> list[tuple[int, float]]:
        """(step, value) wherever `name` was logged as a finite number."""
        return [
            (step, value)
            for step, row in self.rows.items()
            if (value := finite(row.get(name))) is not None
        ]

    def not_finite(self, name: str) -> list[int]:
        """Steps at which `name` was logged, but not as a finite number."""
        return [
            step for step, row in self.rows.items() if name in row and finite(row[name]) is None
        ]

    def names(self) -> set[str]:
        """Everything that was ever logged."""
        return {name for row in self.rows.values() for name in row}


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append one line and hand it to the system at once, so that a kill loses no finished line.

    What a kill left unfinished gets an end first, so that it does not swallow this line too.
    """
    line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path), path.open("ab+") as lines:  # written at the end, wherever it is read
        if lines.tell():
            lines.seek(-1, os.SEEK_END)
            line = line if lines.read() == b"\n" else b"\n" + line
        lines.write(line)


def read_log(path: Path) -> MetricsLog:
    """Read a run's metrics; a run that has logged nothing yet has an empty log.

    Raises:
        UserError: the file is there and cannot be read.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UserError(f"cannot read {str(path)!r}: it is not a file")
    rows: dict[int, dict[str, Any]] = {}
    broken = []
    number = 0
    try:
        with path.open("rb") as lines:
            _require_bounded(path, lines)
            while line := lines.readline(MAX_ROW_BYTES):
                number += 1
                row = _row(line)
                if row is not None:
                    step = row["step"]
                    rows[step] = rows.get(step, {}) | row
                elif line.strip():
                    broken.append(number)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from None
    torn = broken[-1:] == [number]
    return MetricsLog(
        {step: rows[step] for step in sorted(rows)}, tuple(broken[:-1] if torn else broken)
    )


class LogReader:
    """Reads a run's metrics again and again, each line once."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        self._rows: dict[int, dict[str, Any]] = {}

    def read(self) -> MetricsLog:
        """All finished lines until now; broken ones are left out."""
        if self._path.is_file():
            with self._path.open("rb") as lines:
                lines.seek(self._read)
                while (line := lines.readline(MAX_ROW_BYTES)).endswith(b"\n"):
                    self._read += len(line)
                    if (row := _row(line)) is not None:
                        self._rows[row["step"]] = self._rows.get(row["step"], {}) | row
        return MetricsLog({step: self._rows[step] for step in sorted(self._rows)}, ())


def _require_bounded(path: Path, log: BinaryIO) -> None:
    """Refuse at once what no run logs: it is counted before a line is parsed."""
    ends, pieces = 0, 0
    while piece := log.read(MAX_ROW_BYTES):
        ends, pieces = ends + piece.count(b"\n"), pieces + len(piece)
        if ends > MAX_LOG_LINES or pieces > MAX_LOG_BYTES:
            raise UserError(
                f"cannot read {path}: a run logs at most {MAX_LOG_LINES:,} lines and "
                f"{MAX_LOG_BYTES:,} bytes, and it holds more; restore it from a copy"
            )
    log.seek(0)


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = bounded_json(line)
    except ValueError:
        return None
    known = isinstance(row, dict) and type(row.get("step")) is int and row["step"] >= 0
    return row if known else None


def finite(value: object) -> float | None:
    """A number that can be reckoned with; None for all else.  JSON's integers have any size."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if -LARGEST <= value <= LARGEST else None
