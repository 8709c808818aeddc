"""Before any training: does every gold answer score full marks, and no known hack?

    xmlgrpo-validate gsm8k data/gsm8k
    python -m xmlgrpo_rewards.validate gsm8k train.jsonl

No model is needed.  Each row's solution and gold are written in the strict form and must be graded
right, strictly and leniently, and the row that the task writes for it must be the same problem;
where golds are numbers the five classic rewards must pay full marks too.  Then the known hacks
(`hacks.py`) are tried on golds spread over the range that the files hold.  The exit code is 0 when
all is well, 1 after a failure and 2 for input that cannot be read.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from xmlgrpo_rewards.console_script import (
    add_version,
    kept_on_interrupt,
    path_argument,
    run_command,
)
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.hacks import FULL_MARKS, HACKS
from xmlgrpo_rewards.numbers import parse_number
from xmlgrpo_rewards.prose import fitted
from xmlgrpo_rewards.reply import render
from xmlgrpo_rewards.rows import count_text_rows, split_files, text_rows
from xmlgrpo_rewards.scores import WHOLE_NUMBER
from xmlgrpo_rewards.task import BadRow, Example, Task, get_task, task_names
from xmlgrpo_rewards.total import CLASSIC, load_rewards, total

HACKED_GOLDS = 32
SHOWN_FAILURES = 5
ROUNDING = 1e-9
SPLITS = ("train", "test")
LINES_EVERY_S = 5.0
_Row = TypeVar("_Row")
_REWARDS = load_rewards(dict.fromkeys(CLASSIC, 1.0))


@dataclass(slots=True)
class Checked:
    """One line of the table."""

    name: str  # of the file, or of the other thing that was checked
    tried: int = 0  # rows or replies
    failures: list[str] = field(default_factory=list)  # what went wrong, one sentence each
    golds: list[str] = field(default_factory=list)  # the gold answers that were read


def check_file(task: Task, path: Path) -> Checked:
    """Check every row of a file.

    Raises:
        UserError: the file cannot be read.  A row that the task refuses is a failure instead, so
            that one run names all of them.
    """
    checked = Checked(path.name)
    for row in _with_progress(text_rows(path), path):
        checked.tried += 1
        try:
            example = task.example(row.fields, row.id)
        except BadRow as error:
            checked.failures.append(str(error))
            continue
        checked.golds.append(example.gold)
        checked.failures += filter(None, (gold_failure(task, example), row_failure(task, example)))
    return checked


def _with_progress(rows: Iterable[_Row], path: Path) -> Iterator[_Row]:
    """The same rows; from five seconds on, a line every five shows how many are done."""
    began_s = spoke_s = time.monotonic()
    total = None
    for done, row in enumerate(rows):
        now_s = time.monotonic()
        if done and now_s - spoke_s >= LINES_EVERY_S:
            total = total or count_text_rows(path)
            rate, spoke_s = done / (now_s - began_s), now_s
            left = timedelta(seconds=round((total - done) / rate))
            print(f"{path.name}  {done:,}/{total:,} rows  {rate:,.0f}/s  left {left}", flush=True)
        yield row


def row_failure(task: Task, example: Example) -> str | None:
    """Why the row that the task writes is not the problem again; None when it is."""
    try:
        again = task.example(json.loads(json.dumps(task.row(example))), example.id)
    except (BadRow, TypeError, ValueError) as error:
        return f"row {example.id}: what row() writes cannot be read back: {error}"
    if again != example:
        return f"row {example.id}: what row() writes is read back as {again}"
    return None


def gold_failure(task: Task, example: Example) -> str | None:
    """Why the gold reply of `example` does not score full marks; None when it does."""
    text = render(example.solution or "The answer is known.", example.gold)
    grade = task.grade(text, example.gold)
    if not (grade.strict_correct and grade.lenient_correct):
        return f"row {example.id}: the gold answer {example.gold!r} is graded {grade}"
    number = parse_number(example.gold)
    if number is None:
        return None
    whole = number == number.to_integral_value()
    expected = FULL_MARKS if whole else FULL_MARKS - WHOLE_NUMBER
    [earned] = total(_REWARDS, [text], answer=[example.gold])
    if earned.value < expected - ROUNDING:
        return (
            f"row {example.id}: the gold answer {example.gold!r} earns {earned.value:g} of "
            f"{expected:g}: {earned.parts}"
        )
    return None


def check_hacks(task: Task, golds: Sequence[str]) -> Checked:
    """Try every known hack on golds from the smallest to the largest of those given."""
    numbers = {gold: number for gold in golds if (number := parse_number(gold)) is not None}
    checked = Checked("known hacks")
    for gold in _spread(numbers):
        for hack in HACKS:
            checked.tried += 1
            text = hack.reply_to(gold)
            [earned] = total(_REWARDS, [text], answer=[gold])
            if earned.value > hack.highest + ROUNDING:
                checked.failures.append(
                    f"{hack.name} with gold {gold}: earns {earned.value:g}, "
                    f"may earn {hack.highest:g}"
                )
            if task.grade(text, gold).strict_correct:
                checked.failures.append(f"{hack.name} with gold {gold}: is graded right")
    return checked


def _spread(numbers: dict[str, Decimal]) -> list[str]:
    ordered = sorted(numbers, key=lambda gold: numbers[gold])
    if len(ordered) <= HACKED_GOLDS:
        return ordered
    step = (len(ordered) - 1) / (HACKED_GOLDS - 1)
    return [ordered[round(i * step)] for i in range(HACKED_GOLDS)]


def table(checks: Sequence[Checked]) -> str:
    """What was tried, as lines of plain text, the first failures of each part below it."""
    width = max(len(check.name) for check in checks)
    lines = [f"{'':<{width}}  {'tried':>7}  {'failed':>7}"]
    for check in checks:
        failed = len(check.failures)
        lines.append(f"{check.name:<{width}}  {check.tried:>7,}  {failed:>7,}")
    for check in checks:
        lines += [f"FAILED {failure}" for failure in check.failures[:SHOWN_FAILURES]]
        if len(check.failures) > SHOWN_FAILURES:
            lines.append(f"... and {len(check.failures) - SHOWN_FAILURES:,} more of {check.name}")
    return "\n".join(lines)


def validate(task_name: str, paths: Sequence[Path]) -> int:
    """Check the files, print the table, and give the exit code."""
    task = get_task(task_name)
    files = [file for path in paths for file in _files(path, task.dataset_config)]
    started_s = time.perf_counter()
    checks = [check_file(task, file) for file in files]
    rows, took_s = sum(check.tried for check in checks), time.perf_counter() - started_s
    checks.append(check_hacks(task, [gold for check in checks for gold in check.golds]))
    text = table(checks)
    print(fitted(text, os.get_terminal_size().columns) if sys.stdout.isatty() else text)
    print(f"{rows:,} rows in {took_s:.2f} s ({rows / took_s:,.0f} rows/s)")
    return 1 if any(check.failures for check in checks) else 0


def _files(path: Path, config: str | None) -> list[Path]:
    """A file as it is; of a folder the splits in it."""
    if not path.is_dir():
        return [path]
    files = [file for split in SPLITS for file in split_files(path, split, "PATH", config)]
    if not files:
        raise UserError(
            f"expected train.jsonl or test.jsonl in the folder {str(path)!r}, or the same in "
            "another form (.csv, .jsonl.gz, train-00000-of-00001.csv), got none of them"
        )
    return files


def main() -> None:
    """The console script `xmlgrpo-validate`."""
    run_command(run)


def run() -> int:
    """Read the command line, check, and give the exit code."""
    parser = argparse.ArgumentParser(
        prog="xmlgrpo-validate",
        description="Check that every gold answer scores full marks and no known hack does.",
    )
    add_version(parser)
    parser.add_argument("task", help=f"one of: {', '.join(task_names())}")
    parser.add_argument(
        "paths",
        nargs="+",
        type=path_argument,
        metavar="PATH",
        help="rows as JSON lines, CSV or TSV, plain or packed (gzip, bzip2, xz): a file, or a "
        "folder with train.jsonl and test.jsonl",
    )
    given = parser.parse_args()
    with kept_on_interrupt("nothing was changed; the same command checks again"):
        return validate(given.task, given.paths)


if __name__ == "__main__":
    main()
