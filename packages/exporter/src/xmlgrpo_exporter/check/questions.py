"""Real questions to compare models by, where they are from, and how many of them are answered.

In this order: what the user names, the run's own held-out problems (what the model was judged on),
the folder that the environment names for the task (`GSM8K_DIR`), a short built-in list.  The source
stands in every result, because numbers measured on other questions are other numbers.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.rows import Row, files_of
from xmlgrpo_rewards.task import DEFAULT_TASK, BadRow, Task, data_variable, get_task
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.prompt import Messages
from xmlgrpo_run.rows import read_rows

ANSWER_TIMEOUT_S = 1800

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
class Questions:
    """Questions, and the words that say where they are from."""

    source: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two forms of a model are compared, as the command line says it; read once, passed on."""

    questions: Questions  # all of them are tokenized
    console: Console
    prompts: int  # how many questions are answered, at most
    new_tokens: int  # of the longest reply
    task: str | None = None  # whose prompt puts the questions; None for the plain reply format
    device: str = "auto"
    limits: Mapping[str, float] = field(default_factory=dict)  # instead of a file type's `Limits`
    timeout_s: float = ANSWER_TIMEOUT_S  # for a file to answer

    @property
    def answered(self) -> tuple[str, ...]:
        """The questions that both sides answer."""
        return self.questions.texts[: self.prompts]

    def chats(self, questions: Iterable[str]) -> list[Messages]:
        """Questions as the chats that training used."""
        messages = get_task(self.task).messages if self.task else reply.messages
        return [messages(question) for question in questions]


def system_of(chat: Messages) -> str:
    """The system message of a chat; empty when it has none."""
    return next((message["content"] for message in chat if message["role"] == "system"), "")


def load_questions(data: Path | None, run: RunFolder | None, task: str = DEFAULT_TASK) -> Questions:
    """Find questions; see the module's docstring for the order.

    Args:
        data: a file of the task's rows, or of rows with a "question" in each; or a folder with a
            test split.

    Raises:
        UserError: the task is not installed, or a row is none of its.
    """
    reader = get_task(task)
    held_out = run and run.holdout_items
    if data is not None:
        return Questions(data.name, _read(data, "--data", reader))
    if held_out and held_out.is_file():
        return Questions("held-out problems of the run", _read(held_out, str(held_out), reader))
    variable = data_variable(task)
    if folder := os.environ.get(variable):
        return Questions(f"{task} test", _read(Path(folder), variable, reader))
    return Questions("built-in list", BUILT_IN)


def _read(place: Path, named: str, task: Task) -> tuple[str, ...]:
    rows = read_rows(*files_of(place, "test", named, task.dataset_config))
    return tuple(_question(row, task) for row in rows)


def _question(row: Row, task: Task) -> str:
    """What the task asks by a row; of one without a gold the question that stands in it."""
    try:
        return task.example(row.fields, row.id).question
    except BadRow as error:
        question = row.fields.get("question")
        if isinstance(question, str):
            return question
        raise UserError(f'{error}; or give it a "question" that is text') from None
