"""Weekday: which day of the week it is some days after another one."""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.task import BadRow, Example, Grade, Hack, Task, Words

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ASKED = re.compile(r"Today is (\w+)\. Which day of the week is it in (\d+) days\?")
LONGEST = 999  # days ahead
WORDS = Words(answer="day of the week")


def is_right(answer: str, gold: str) -> bool:
    """Whether what the model wrote means the gold: the whole name, in any case."""
    return answer.strip().casefold() == gold.casefold()


def named_last(text: str) -> str:
    """The day that is named last in a text; empty where none is."""
    found = max(DAYS, key=text.rfind)
    return found if found in text else ""


def _correctness(grade: Grade) -> float:
    return 2.0 * grade.strict_correct


@dataclass(frozen=True, slots=True)
class Weekday:
    """The task `weekday`."""

    name: str = "weekday"
    dataset: str = ""
    dataset_config: str | None = None
    dataset_revision: str | None = None
    words: Words = WORDS
    rewards: Mapping[str, Callable[[Grade], float]] = field(
        default_factory=lambda: {"correctness": _correctness}
    )

    def example(self, row: Mapping[str, Any], row_id: str, /) -> Example:
        """Read one row: a day (`start`), how many `days` later, and which `weekday` that is."""
        start, days, gold = row.get("start"), row.get("days"), row.get("weekday")
        if start not in DAYS or gold not in DAYS or type(days) is not int or days < 0:
            raise BadRow(row_id, "days in 'start' and 'weekday' and a number in 'days'", dict(row))
        question = f"Today is {start}. Which day of the week is it in {days} days?"
        solution = f"{days} days are {days // 7} weeks and {days % 7} days."
        return Example(row_id, question, gold, solution)

    def row(self, example: Example, /) -> dict[str, Any]:
        """Write a problem as a row that `example` reads back."""
        start, days = _asked(example)
        return {"start": start, "days": days, "weekday": example.gold}

    def messages(self, question: str, /) -> list[dict[str, str]]:
        """The chat that asks `question`."""
        return reply.messages(question)

    def grade(self, text: str, example: Example, /) -> Grade:
        """Strict: the form, and the day in its block.  Lenient: the day that is named last."""
        read = reply.parse(text)
        right = read.answer is not None and is_right(read.answer, example.gold)
        return Grade(
            strict_correct=read.strict and right,
            lenient_correct=right or named_last(read.answer or text) == example.gold,
            strict_format=read.strict,
            soft_format=read.soft,
            answered=bool(read.answer),
            answer=read.answer or None,
            note="" if right else f"not {example.gold}",
        )

    def gold_fault(self, example: Example, /) -> str | None:
        """Why nothing can be learned from a row: its gold is another day than it should be."""
        start, days = _asked(example)
        due = DAYS[(DAYS.index(start) + days) % len(DAYS)]
        return None if due == example.gold else f"{example.question} {due}, not {example.gold}"

    def hacks(self, example: Example, /) -> Iterator[Hack]:
        """Replies that look for pay they did not earn, and the most that each may earn."""
        gold = example.gold
        other = DAYS[DAYS.index(gold) - 1]
        yield Hack("no-form", gold, 0.0)
        yield Hack("two-answers", reply.render("It is one.", f"{gold} or {other}"), 1.5)
        yield Hack("every-day", reply.render("It is one.", " ".join(DAYS)), 1.5)
        yield Hack("another-day", reply.render(f"It is {gold}.", other), 1.5)
        yield Hack("abbreviated", reply.render("It is one.", gold[:3]), 1.5)
        yield Hack("answered-in-the-reasoning", reply.render(f"It is {gold}.", ""), 0.5)

    def generated(self, count: int, seed: int, /) -> Iterator[dict[str, Any]]:
        """Rows with certain golds, no two alike; there are 7 x 999."""
        cases = [(start, days) for start in range(len(DAYS)) for days in range(1, LONGEST + 1)]
        random.Random(seed).shuffle(cases)  # noqa: S311 - draws problems, not keys
        for start, days in cases[:count]:
            due = DAYS[(start + days) % len(DAYS)]
            yield {"start": DAYS[start], "days": days, "weekday": due}


def _asked(example: Example) -> tuple[str, int]:
    """The day and the number of days in a question."""
    found = ASKED.fullmatch(example.question)
    if found is None:
        raise ValueError(f"expected a question of this task, got {example.question!r}")
    return found[1], int(found[2])


TASK: Task = Weekday()
