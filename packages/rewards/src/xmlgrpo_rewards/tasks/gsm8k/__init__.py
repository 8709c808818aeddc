"""GSM8K: grade-school word problems whose answer is one number.

Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems", arXiv 2110.14168.  A row has a
`question` and an `answer`: a worked solution with calculator notes (`<<48/2=24>>`), then a line
`#### 24`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.numbers import last_number, parse_number
from xmlgrpo_rewards.task import BadRow, Example, Grade, Task, Words

GOLD_MARK = "####"
WORDS = Words(answer="number", worked="a sum is written")
_NOTE = re.compile(r"<<[^<>]*>>")


@dataclass(frozen=True, slots=True)
class Gsm8k:
    """The task `gsm8k`.  Its methods keep no state."""

    name: str = "gsm8k"
    dataset: str = "openai/gsm8k"
    dataset_config: str | None = "main"
    dataset_revision: str | None = "e53f048856ff4f594e959d75785d2c2d37b678ee"
    words: Words = WORDS

    def example(self, row: Mapping[str, Any], row_id: str, /) -> Example:
        """Read one row: the gold is the number after the last `####`, without its commas.

        Raises:
            BadRow: `question` or `answer` is missing, not a text or empty; there is no `####`; or
                what follows the last one is not a number.
        """
        question, answer = _field(row, "question", row_id), _field(row, "answer", row_id)
        solution, mark, gold_text = answer.rpartition(GOLD_MARK)
        if not mark:
            raise BadRow(row_id, f"an answer that ends in `{GOLD_MARK} <number>`", answer)
        gold = parse_number(gold_text)
        if gold is None:
            raise BadRow(row_id, f"one number after the last `{GOLD_MARK}`", gold_text.strip())
        return Example(
            id=row_id,
            question=question,
            gold=f"{gold:f}",
            solution=_NOTE.sub("", solution).strip(),
        )

    def row(self, example: Example, /) -> dict[str, Any]:
        """Write a problem as a row of GSM8K, without calculator notes."""
        answer = f"{example.solution}\n{GOLD_MARK} {example.gold}"
        return {"question": example.question, "answer": answer}

    def messages(self, question: str, /) -> list[dict[str, str]]:
        """The chat that asks `question`."""
        return reply.messages(question)

    def grade(self, text: str, example: Example, /) -> Grade:
        """Compare numbers, not texts: `1,234.00` is right where the gold is `1234`.

        Strict reads the answer block and wants the strict form around it.  Lenient reads the last
        number anywhere, so a right answer in another form, or in none, is right.  The answer shown
        is the strict one where there is one.

        Raises:
            ValueError: the gold is not a number: it did not come from the method `example`.
        """
        gold_number = parse_number(example.gold)
        if gold_number is None:
            raise ValueError(f"expected a number as gold, got {example.gold!r}")
        read = reply.parse(text)
        in_block = None if read.answer is None else parse_number(read.answer)
        anywhere = last_number(text)
        shown = anywhere if in_block is None else in_block
        return Grade(
            strict_correct=read.strict and in_block == gold_number,
            lenient_correct=anywhere == gold_number,
            strict_format=read.strict,
            soft_format=read.soft,
            answered=shown is not None,
            answer=None if shown is None else _plain(shown),
        )


def _field(row: Mapping[str, Any], key: str, row_id: str) -> str:
    if key not in row:
        raise BadRow(row_id, f"a field {key!r}", sorted(map(str, row)))
    value = row[key]
    if not isinstance(value, str) or not value.strip():
        raise BadRow(row_id, f"a text in {key!r}", value)
    return value


def _plain(number: Decimal) -> str:
    return f"{number:f}"


TASK: Task = Gsm8k()
