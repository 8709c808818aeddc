"""JSON answers: a passage, a question and a JSON Schema; the answer must be valid and right."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.task import Example, Grade, Hack, Words
from xmlgrpo_tasks.json_qa.generate import Level, generated
from xmlgrpo_tasks.json_qa.gold import gold_fault
from xmlgrpo_tasks.json_qa.grading import PARSES, VALID, grade
from xmlgrpo_tasks.json_qa.hacks import hacks
from xmlgrpo_tasks.json_qa.rows import example_of, row_of

WORDS = Words(answer="JSON object")


def _correctness(graded: Grade) -> float:
    return 2.0 if graded.strict_correct else 0.0


def _parses(graded: Grade) -> float:
    return 0.25 if PARSES in graded.parts else 0.0


def _valid(graded: Grade) -> float:
    return 0.25 if VALID in graded.parts else 0.0


@dataclass(frozen=True, slots=True)
class JsonQa:
    """The task `json_qa`."""

    name: str = "json_qa"
    dataset: str = ""  # made on the spot, or a file of yours
    dataset_config: str | None = None
    dataset_revision: str | None = None
    words: Words = WORDS
    levels: Sequence[str] = get_args(Level)
    rewards: Mapping[str, Callable[[Grade], float]] = field(
        default_factory=lambda: {"correctness": _correctness, "parses": _parses, "valid": _valid}
    )

    def example(self, row: Mapping[str, Any], row_id: str, /) -> Example:
        """Read one row; `rows.example_of` says what it refuses."""
        return example_of(row, row_id)

    def row(self, example: Example, /) -> dict[str, Any]:
        """Write a problem as a row that `example` reads back."""
        return row_of(example)

    def messages(self, question: str, /) -> list[dict[str, str]]:
        """The chat that asks `question`: passage, question and schema."""
        return reply.messages(question)

    def grade(self, text: str, example: Example, /) -> Grade:
        """Grade a completion."""
        return grade(text, example)

    def gold_fault(self, example: Example, /) -> str | None:
        """Why a row cannot be trained or measured on; None where it can."""
        return gold_fault(example)

    def hacks(self, example: Example, /) -> Iterator[Hack]:
        """Replies that look for pay they did not earn."""
        return hacks(example)

    def generated(
        self, count: int, seed: int, level: Level = "mixed", /
    ) -> Iterator[dict[str, Any]]:
        """Rows with certain golds."""
        return generated(count, seed, level)


TASK = JsonQa()
