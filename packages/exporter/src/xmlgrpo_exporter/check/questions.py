"""Real questions to check with, and where they came from.

In this order: what the user names, the run's own held-out problems (what the model was judged on),
`GSM8K_DIR`, a short built-in list.  The source stands in every result, because numbers measured on
other questions are other numbers.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import read_json
from xmlgrpo_run.folder import RunFolder

BUILT_IN = (
    "A box holds 12 pencils. A teacher buys 7 boxes and gives 30 pencils away. How many are left?",
    "Tom has 3 times as many stamps as Ann, who has 15. How many have they together?",
    "A train goes 60 miles in an hour. How many miles does it go in 2.5 hours?",
    "Mia earns $18 an hour. She works 6 hours on Friday and 4 on Saturday. What does she earn?",
    "A shirt costs $40. In a sale it is 25% cheaper. What does it cost then?",
    "Four friends share 52 cards equally. How many does each get?",
    "A farm has 1,250 hens. Each lays 5 eggs a week. How many eggs is that in 4 weeks?",
    "Lea reads 20 pages on Monday and twice as many on Tuesday. How many pages has she read?",
    "A tank holds 90 litres and loses 3 litres an hour. After how many hours is it empty?",
    "Ben is 4 years older than Kim. In 6 years they will be 40 together. How old is Kim?",
    "A cake needs 3 eggs. How many cakes can be made from 2 dozen eggs?",
    "Sam buys 5 apples at $1.20 and 2 melons at $3.50. What does he pay?",
    "A class of 28 has 4 more girls than boys. How many boys are in it?",
    "A rope of 84 feet is cut into pieces of 7 feet. How many cuts does that take?",
    "Nina saves $15 a week. How many weeks until she has $240, if she starts with $60?",
    "There are 8 rows of 14 chairs, and 19 people stay away. How many people come?",
)

# For the comparison of token ids only: spaces, line breaks, scripts and marks that a tokenizer
# written down wrongly splits differently.
AWKWARD = (
    "3个苹果共9元，7个苹果多少钱？",
    "Two  spaces,   three, a\ttab\nand a line break.\n\n\nThree more.",
    "Prices: €5, £4.99, ½ off! “Quoted” – and naïve café 🦙✅",
    "नमस्ते, 12,345.678 + −3 = ?",
    "<b>tags</b> & <reasoning> inside </reasoning>, 'x' * 10",
    "  leading and trailing  ",
)


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions, and the words that say where they came from."""

    source: str
    texts: tuple[str, ...]


def load_questions(data: Path | None, run: RunFolder | None) -> QuestionSet:
    """Find questions; see the module's docstring for the order.

    Args:
        data: a JSONL file with a "question" in each row, or a folder with `test.jsonl`.
        run: a run, whose held-out problems are used when there is no `data`.

    Raises:
        UserError: `data` (or `GSM8K_DIR`) has no question.
    """
    if data is not None:
        return QuestionSet(data.name, _from_file(data))
    if run is not None and (held_out := tuple(_held_out(run.holdout))):
        return QuestionSet("held-out problems of the run", held_out)
    if folder := os.environ.get("GSM8K_DIR"):
        return QuestionSet("GSM8K test", _from_file(Path(folder)))
    return QuestionSet("built-in list", BUILT_IN)


def _from_file(path: Path) -> tuple[str, ...]:
    file = path / "test.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"expected a JSONL file of questions or a folder with test.jsonl, found none at {file}"
        )
    questions = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{file}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict) or not isinstance(row.get("question"), str):
            raise UserError(f'{file}, line {number}: expected an object with a text "question"')
        questions.append(row["question"])
    if not questions:
        raise UserError(f"{file} is empty; expected a question in every line")
    return tuple(questions)


def _held_out(folder: Path) -> Iterator[str]:
    """The questions of the first result in the run's `holdout/`; every result has the same.

    Raises:
        UserError: the result is not one.
    """
    for file in sorted(folder.glob("*.json")):
        items = read_json(file).get("items", [])
        try:
            questions = [str(item["question"]) for item in items]
        except (TypeError, KeyError):
            raise UserError(
                f"{file}: expected items with a question; restore it, or give --data"
            ) from None
        if questions:
            yield from questions
            return
