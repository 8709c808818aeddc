"""Generated problems of a task: a half for warm starts, the other half for runs.

A hash of the question says which half it belongs to.  So no run, of whatever seed, trains on or is
measured on a question that a warm start has shown.  Both halves come from one generator: the forms
of questions and the words in them recur, and held-out accuracy says nothing about other kinds of
problem.
"""

import hashlib
from collections.abc import Iterator
from itertools import islice

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Example, Task, extras

MADE_UP_SUMS = "gsm8k"  # the task of the embedded default, whose problems are `tiny.problems`
WARM, RUN = 0, 1
MOST_TRIED = 6  # rows made for one that is kept; more means that there are no more


def has_own_base(task: Task) -> bool:
    """Whether it makes rows, and so a base of its own, in place of the made-up sums."""
    return task.name != MADE_UP_SUMS and extras(task).generated is not None


def check_level(task: Task, level: str | None) -> None:
    """Refuse a level that the task does not have."""
    levels = extras(task).levels
    if level is not None and level not in levels:
        there = f"has the levels {', '.join(levels)}" if levels else "has no levels"
        raise UserError(f"data.level: the task {task.name!r} {there}, got {level!r}")


def warm_problems(task: Task, level: str | None, seed: int, count: int) -> list[Example]:
    """Problems for a warm start, as many as there are of `count`."""
    return list(islice(_half(task, level, seed, WARM, count), count))


def run_problems(task: Task, level: str | None, seed: int, count: int) -> list[Example]:
    """Problems for a run, to hold out and to train on, without a repeated question.

    Raises:
        UserError: the task makes too few.
    """
    problems = list(islice(_half(task, level, seed, RUN, count), count))
    if len(problems) < count:
        raise UserError(
            f"the task {task.name!r} makes {len(problems):,} different problems for a run, and "
            f"{count:,} are wanted; lower data.generated_rows or holdout.report_rows"
        )
    return problems


def _half(task: Task, level: str | None, seed: int, half: int, count: int) -> Iterator[Example]:
    offers = extras(task)
    if offers.generated is None:
        raise UserError(f"the task {task.name!r} makes no rows; give it a file: data.source=json")
    check_level(task, level)
    named = hashlib.sha256(f"{half} {seed}".encode()).digest()
    stream = int.from_bytes(named[:4])  # each half has its own order
    asked = (count * MOST_TRIED, stream, *([level] if level is not None else []))
    seen = set()
    for number, row in enumerate(offers.generated(*asked), start=1):
        problem = task.example(row, f"generated:{number}")
        digest = hashlib.sha256(problem.question.encode()).digest()
        if digest[0] % 2 == half and digest not in seen:
            seen.add(digest)
            yield problem
