"""A task as one value: what every task of this package has, and what pays where nothing is said."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.task import Example, Grade, Hack, Words

# what the default rewards pay: a right answer in the strict form, one part of a grade, the form
CORRECT, PART, FORM = 2.0, 0.25, 1.5


def rewards_of(**parts: str) -> dict[str, Callable[[Grade], float]]:
    """All or nothing for the answer, and a little for each part: a reward's name -> the part's."""

    def correctness(grade: Grade) -> float:
        return CORRECT if grade.strict_correct else 0.0

    def of_part(part: str) -> Callable[[Grade], float]:
        return lambda grade: PART if part in grade.parts else 0.0

    return {"correctness": correctness} | {name: of_part(part) for name, part in parts.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedTask:
    """A `Task` with all its `Extras`, made of the functions of its folder.

    Attributes:
        rules: what stands below each question.
    """

    name: str
    words: Words
    levels: Sequence[str]
    rewards: Mapping[str, Callable[[Grade], float]]
    example: Callable[[Mapping[str, Any], str], Example]
    row: Callable[[Example], dict[str, Any]]
    grade_many: Callable[[Sequence[str], Sequence[Example]], list[Grade]]
    gold_fault: Callable[[Example], str | None]
    hacks: Callable[[Example], Iterable[Hack]]
    generated: Callable[..., Iterator[dict[str, Any]]]
    ready: Callable[[], str] = str
    rules: str = ""
    dataset: str = ""
    dataset_config: str | None = None
    dataset_revision: str | None = None

    def messages(self, question: str, /) -> list[dict[str, str]]:
        """The chat that asks `question`."""
        return reply.messages(f"{question}\n\n{self.rules}" if self.rules else question)

    def grade(self, text: str, example: Example, /) -> Grade:
        """The grade of one reply."""
        [grade] = self.grade_many([text], [example])
        return grade
