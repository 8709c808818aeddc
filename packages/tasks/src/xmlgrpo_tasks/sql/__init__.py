"""SQL: a schema with rows and a question; the answer is one SELECT, graded by running it.

Each row has two databases or more over one schema; a query is right when it gives what the gold
gives on every one of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.task import Example, Grade, Hack, Words
from xmlgrpo_tasks.sql import gold, rows
from xmlgrpo_tasks.sql.generate import EASY, FULL, generated
from xmlgrpo_tasks.sql.grading import EXECUTES, grade_many
from xmlgrpo_tasks.sql.hacks import hacks

WORDS = Words(answer="query")
CORRECT = 2.0
RUNS = 0.25  # where the answer is a query that runs and has the gold's number of columns


def correctness(grade: Grade) -> float:
    """All or nothing: rows that are partly right earn nothing."""
    return CORRECT if grade.strict_correct else 0.0


def executes(grade: Grade) -> float:
    """A little for a query that runs, reads a table and has as many columns as asked for."""
    return RUNS if EXECUTES in grade.parts else 0.0


@dataclass(frozen=True, slots=True)
class Sql:
    """The task `sql`.  Its workers are started by the first grade and end with the process."""

    name: str = "sql"
    dataset: str = "gretelai/synthetic_text_to_sql"
    dataset_config: str | None = None
    dataset_revision: str | None = "273a86f5f290e8d61b6767a9ff690c82bc990dc4"
    words: Words = WORDS
    levels: Sequence[str] = (EASY, FULL)
    rewards: Mapping[str, Callable[[Grade], float]] = field(
        default_factory=lambda: {"correctness": correctness, "executes": executes}
    )

    def example(self, row: Mapping[str, Any], row_id: str, /) -> Example:
        """Read one row: one's own, a generated one or one of the data set.

        Raises:
            BadRow: it cannot be a problem; what only running it shows is `gold_fault`'s to say.
        """
        return rows.read(row, row_id)

    def row(self, example: Example, /) -> dict[str, Any]:
        """Write a problem as a row with its databases."""
        return rows.write(example)

    def messages(self, question: str, /) -> list[dict[str, str]]:
        """The chat that asks `question`, which has the schema in it."""
        return reply.messages(question)

    def grade(self, text: str, example: Example, /) -> Grade:
        """Strict: the bare query in the strict form is right on every database.

        Lenient: the last query of the reply is, its columns in any order.
        """
        return grade_many([text], [example])[0]

    def grade_many(self, texts: Sequence[str], examples: Sequence[Example], /) -> list[Grade]:
        """The grades of many replies, on all cores."""
        return grade_many(texts, examples)

    def gold_fault(self, example: Example, /) -> str | None:
        """Why a row cannot be trained or measured on; None when it can."""
        return gold.fault(example)

    def hacks(self, example: Example, /) -> Iterable[Hack]:
        """Replies that look for pay, and what each may earn."""
        return hacks(example)

    def generated(self, count: int, seed: int, level: str = FULL, /) -> Iterator[dict[str, Any]]:
        """Rows whose golds are certain."""
        return generated(count, seed, level)


TASK = Sql()
