"""Code: write a Python function, graded by what it returns in cases that are not shown."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.task import Example, Grade, Hack, Words
from xmlgrpo_tasks.code import generate, gold, grading, hacks, rows
from xmlgrpo_tasks.workers import sandbox

RULES = (
    "Answer with Python code that defines the function. Use the standard library only; read and "
    "print nothing."
)
WORDS = Words(answer="program", worked=None)
REWARDS: Mapping[str, Callable[[Grade], float]] = {
    "correctness": lambda grade: 2.0 if grade.strict_correct else 0.0,
    "defines_entry": lambda grade: 0.25 if grading.DEFINES in grade.parts else 0.0,
}


@dataclass(frozen=True, slots=True)
class Code:
    """The task `code`.  Its workers start with the first grade and end with the process."""

    name: str = "code"
    dataset: str = "google-research-datasets/mbpp"
    dataset_config: str | None = "full"
    dataset_revision: str | None = None
    levels: tuple[generate.Level, ...] = generate.LEVELS
    words: Words = WORDS
    rewards: Mapping[str, Callable[[Grade], float]] = field(
        default_factory=lambda: REWARDS, hash=False
    )

    def example(self, row: Mapping[str, Any], row_id: str, /) -> Example:
        """Read one row of ours, of MBPP or of HumanEval (`rows.example`)."""
        return rows.example(row, row_id)

    def row(self, example: Example, /) -> dict[str, Any]:
        """Write a problem as a row of ours."""
        return rows.row(example)

    def messages(self, question: str, /) -> list[dict[str, str]]:
        """The chat that asks `question`."""
        return reply.messages(f"{question}\n\n{RULES}")

    def ready(self) -> str:
        """Which sandbox this machine has for programs.

        Raises:
            UserError: none.
        """
        return sandbox.choose().sentence

    def grade(self, text: str, example: Example, /) -> Grade:
        """Run the program of a reply on all cases and compare what it returns.

        Strict wants the strict form with nothing but the program in the answer block.  Lenient
        takes it fenced, too, or, without an answer block, the last fenced block or the last `def`
        of the function.  Both want every case right.

        Raises:
            UserError: this machine has no sandbox.
        """
        [grade] = grading.grade_many([text], [example])
        return grade

    def grade_many(self, texts: Sequence[str], examples: Sequence[Example], /) -> list[Grade]:
        """The same for many, on all cores."""
        return grading.grade_many(texts, examples)

    def gold_fault(self, example: Example, /) -> str | None:
        """Why a row cannot be trained or measured on."""
        return gold.gold_fault(example)

    def hacks(self, example: Example, /) -> Iterable[Hack]:
        """Replies that look for pay, escape or harm."""
        return hacks.hacks(example)

    def generated(
        self, count: int, seed: int, level: generate.Level = "easy", /
    ) -> Iterator[dict[str, Any]]:
        """Functions of one line ("easy"), or of several lines ("full"): see `generate.rows`."""
        return generate.rows(count, seed, level)


TASK = Code()
