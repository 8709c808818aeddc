"""Before any training: does every gold answer score full marks, and no known hack?

    xmlgrpo-validate gsm8k data/gsm8k
    python -m xmlgrpo_rewards.commands.validate gsm8k train.jsonl

No model is needed.  Each row's solution and gold are written in the strict form and must be graded
right, strictly and leniently, the row that the task writes for it must be the same problem, and the
task must find no fault with it; where golds are numbers the five classic rewards must pay full
marks too.  Then the task's known hacks are tried on problems spread over those that the files hold.
The exit code is 0 when all is well, 1 after a failure and 2 for a file that cannot be read.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from xmlgrpo_rewards.commands.progress import with_progress
from xmlgrpo_rewards.commands.rows import made_rows
from xmlgrpo_rewards.console_script import (
    add_version,
    kept_on_interrupt,
    path_argument,
    run_command,
)
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.grading import columns_of, grade_all
from xmlgrpo_rewards.hacks import FULL_MARKS, number_hacks
from xmlgrpo_rewards.numbers import parse_number
from xmlgrpo_rewards.prose import fitted, printable
from xmlgrpo_rewards.reply import render
from xmlgrpo_rewards.rows import BadRows, Row, split_files, text_rows
from xmlgrpo_rewards.scores import WHOLE_NUMBER
from xmlgrpo_rewards.task import (
    BadRow,
    Example,
    Hack,
    Task,
    default_rewards,
    extras,
    get_task,
    task_names,
)
from xmlgrpo_rewards.total import Total, load_rewards, total

HACKED_GOLDS = 32
HACKED_EXAMPLES = 4  # where golds are no numbers: a hostile reply may take seconds to grade
SHOWN_FAILURES = 5
SHOWN_CHARS = 80  # of a gold
GENERATED_ROWS = 200  # checked where no file is named
ROUNDING = 1e-9
SPLITS = ("train", "test")


@dataclass(slots=True)
class Checked:
    """One line of the table."""

    name: str  # of the file, or of the other thing that was checked
    tried: int = 0  # rows or replies
    failures: list[str] = field(default_factory=list)  # what went wrong, one sentence each
    examples: list[Example] = field(default_factory=list)  # those whose gold is right


def check_file(task: Task, path: Path) -> Checked:
    """Check every row of a file.

    Raises:
        UserError: the file or `MOST_BAD` of its rows cannot be read.  Fewer, and a row that the
            task refuses, are failures instead, so that one run names all of them.
    """
    bad = BadRows()
    rows = list(text_rows(path, bad))  # a file that cannot be read is refused before it is graded
    checked = _check_rows(task, path.name, rows, lambda: len(rows))
    failures = [*bad.messages, *checked.failures]
    return replace(checked, tried=checked.tried + len(bad.messages), failures=failures)


def check_generated(task: Task, count: int) -> Checked:
    """Check so many rows of the task's own making.

    Raises:
        UserError: it makes none.
    """
    rows = (Row(f"generated:{n}", row) for n, row in enumerate(made_rows(task, count, 0), start=1))
    return _check_rows(task, "generated", rows, lambda: count)


def _check_rows(task: Task, name: str, rows: Iterable[Row], count: Callable[[], int]) -> Checked:
    checked, fault = Checked(name), extras(task).gold_fault
    for row in with_progress(rows, name, "rows", count):
        checked.tried += 1
        try:
            example = task.example(row.fields, row.id)
        except BadRow as error:
            checked.failures.append(str(error))
            continue
        wrong = fault(example)
        failure = f"row {example.id}: {wrong}" if wrong else gold_failure(task, example)
        if failure is None:
            checked.examples.append(example)
            failure = row_failure(task, example)
        if failure is not None:
            checked.failures.append(failure)
    return checked


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
    text = gold_reply(example)
    [grade] = grade_all(task, [text], [example])
    if not (grade.strict_correct and grade.lenient_correct):
        why = f": {grade.note}" if grade.note else f" ({grade})"
        return f"row {example.id}: the gold answer {shown(example.gold)} is not graded right{why}"
    number = parse_number(example.gold)
    if number is None or extras(task).rewards:
        return None
    whole = number == number.to_integral_value()
    expected = FULL_MARKS if whole else FULL_MARKS - WHOLE_NUMBER
    [earned] = _earned(task, [text], example)
    if earned.value < expected - ROUNDING:
        return (
            f"row {example.id}: the gold answer {example.gold!r} earns {earned.value:g} of "
            f"{expected:g}: {earned.parts}"
        )
    return None


def gold_reply(example: Example) -> str:
    """The solution and the gold in the strict form."""
    return render(example.solution or "The answer is known.", example.gold)


def shown(gold: str) -> str:
    """A gold in a sentence: of a long one the start."""
    return repr(gold if len(gold) <= SHOWN_CHARS else f"{gold[:SHOWN_CHARS]}…")


def _earned(task: Task, texts: Sequence[str], example: Example) -> list[Total]:
    """What the task's default rewards pay for replies to one example."""
    columns = columns_of([example] * len(texts))
    return total(load_rewards(default_rewards(task), task), texts, **columns)


def battery(task: Task, example: Example) -> Iterable[Hack]:
    """The task's own hacks; those of numbers for a task that the classic rewards pay."""
    has = extras(task)
    own = list(has.hacks(example))
    return own or ([] if has.rewards else number_hacks(example.gold))


def check_hacks(task: Task, examples: Sequence[Example]) -> Checked:
    """Try the task's known hacks on examples spread over those given.

    A number task's go from the smallest gold to the largest.
    """
    checked = Checked("known hacks")
    chosen = _spread(examples)
    for example in with_progress(chosen, checked.name, "problems", lambda: len(chosen)):
        hacks = list(battery(task, example))
        if not hacks:
            continue
        texts = [hack.reply for hack in hacks]
        [gold, *earned] = _earned(task, [gold_reply(example), *texts], example)
        grades = grade_all(task, texts, [example] * len(texts))
        name = shown(example.gold)
        for hack, pay, grade in zip(hacks, earned, grades, strict=True):
            checked.tried += 1
            if pay.value > hack.earns + ROUNDING:
                checked.failures.append(
                    f"{hack.name} with gold {name}: earns {pay.value:g}, may earn {hack.earns:g}"
                )
            if grade.strict_correct and hack.earns < gold.value - ROUNDING:
                checked.failures.append(f"{hack.name} with gold {name}: is graded right")
    return checked


def _spread(examples: Sequence[Example]) -> list[Example]:
    numbers = {e.gold: number for e in examples if (number := parse_number(e.gold)) is not None}
    if not numbers:
        return _evenly(examples, HACKED_EXAMPLES)
    of_gold = {example.gold: example for example in examples}
    return _evenly(
        [of_gold[gold] for gold in sorted(numbers, key=numbers.__getitem__)], HACKED_GOLDS
    )


def _evenly(ordered: Sequence[Example], most: int) -> list[Example]:
    """At most so many, the first and the last among them."""
    if len(ordered) <= most:
        return list(ordered)
    step = (len(ordered) - 1) / (most - 1)
    return [ordered[round(i * step)] for i in range(most)]


def table(checks: Sequence[Checked], shown: int | None = SHOWN_FAILURES) -> str:
    """What was tried, as lines of plain text, the first failures of each part below it.

    Args:
        shown: how many failures of each part; None shows all.
    """
    width = max(len(check.name) for check in checks)
    lines = [f"{'':<{width}}  {'tried':>7}  {'failed':>7}"]
    for check in checks:
        failed = len(check.failures)
        lines.append(f"{check.name:<{width}}  {check.tried:>7,}  {failed:>7,}")
    for check in checks:
        lines += [f"FAILED {failure}" for failure in check.failures[:shown]]
        if shown is not None and len(check.failures) > shown:
            more = f"... and {len(check.failures) - shown:,} more of {check.name}"
            lines.append(f"{more}; --all lists them")
    return "\n".join(lines)


def validate(task_name: str, paths: Sequence[Path], shown: int | None = SHOWN_FAILURES) -> int:
    """Check the files, or rows of the task's own making; print the table, give the exit code."""
    task = get_task(task_name)
    files = [file for path in paths for file in _files(path, task.dataset_config)]
    if graded := extras(task).ready():
        print(graded)
    started_s = time.perf_counter()
    checks = [check_file(task, file) for file in files]
    if not checks:
        checks.append(check_generated(task, GENERATED_ROWS))
    rows, took_s = sum(check.tried for check in checks), time.perf_counter() - started_s
    checks.append(check_hacks(task, [e for check in checks for e in check.examples]))
    text = printable(table(checks, shown))
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


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-validate",
        description="Check that every gold answer scores full marks and no known hack does.",
    )
    add_version(made)
    made.add_argument("task", help=f"one of: {', '.join(task_names())}")
    made.add_argument(
        "paths",
        nargs="*",
        type=path_argument,
        metavar="PATH",
        help="rows as JSON lines, CSV or TSV, plain or packed (gzip, bzip2, xz): a file, or a "
        "folder with train.jsonl and test.jsonl; without any, rows that the task makes itself",
    )
    made.add_argument(
        "--all", action="store_true", help=f"every failure, not the first {SHOWN_FAILURES}"
    )
    return made


def main() -> None:
    """Entry point of the console script."""
    run_command(run)


def run() -> int:
    """Parse the command line, check, and give the exit code."""
    arguments = parser().parse_args()
    with kept_on_interrupt("nothing was changed; the same command checks again"):
        return validate(arguments.task, arguments.paths, None if arguments.all else SHOWN_FAILURES)


if __name__ == "__main__":
    main()
