"""Each completion is graded once, whoever asks: a task's rewards, the log of a step, an exam.

A grade may cost a database or a process.  So grades are kept for a while, by what they depend on,
and what is not known yet goes to the task in one call: a task with a pool of workers fills it.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from hashlib import sha256
from typing import Any

from xmlgrpo_rewards.reply import Completion, completion_text
from xmlgrpo_rewards.task import Example, Grade, Task, extras

MOST_KEPT = 4096  # grades; a larger batch is kept whole
_kept: OrderedDict[bytes, tuple[Task, Grade]] = OrderedDict()  # oldest first


def grade_all(task: Task, texts: Sequence[str], examples: Sequence[Example]) -> list[Grade]:
    """The grade of each text as a reply to the example beside it, in order.

    Raises:
        ValueError: there are more or fewer texts than examples, or grades than texts.
    """
    keys = [_key(task, text, example) for text, example in zip(texts, examples, strict=True)]
    found = {key: _kept[key][1] for key in keys if key in _kept}
    new = {key: i for i, key in enumerate(keys) if key not in found}
    if new:
        chosen = list(new.values())
        grades = extras(task).grade_many([texts[i] for i in chosen], [examples[i] for i in chosen])
        found |= dict(zip(new, grades, strict=True))
    for key in found:
        _kept[key] = (task, found[key])  # with the task, whose `id` is then no other's
        _kept.move_to_end(key)
    while len(_kept) > max(MOST_KEPT, len(found)):
        _kept.popitem(last=False)
    return [found[key] for key in keys]


def grades(
    task: Task, completions: Sequence[Completion], columns: Mapping[str, object]
) -> list[Grade]:
    """The grades of a batch as trl hands it on: completions and the columns of its data set.

    Args:
        task: grades them.
        completions: texts or message lists.
        columns: `answer` (the golds) and, where the task grades by them, `question` and `judge`;
            a list each, as long as `completions`.

    Raises:
        ValueError: a column is missing or has another length.
        TypeError: a completion is neither a text nor a list of messages.
    """
    texts = [completion_text(completion, i) for i, completion in enumerate(completions)]
    return grade_all(task, texts, examples_of(columns, len(texts)))


def examples_of(columns: Mapping[str, object], count: int) -> list[Example]:
    """The problems that a batch's columns hold, without their solutions.

    Raises:
        ValueError: there is no column `answer`, or a column has another length than `count`.
    """
    parts = []
    for name in ("id", "question", "answer", "judge"):
        column = columns.get(name)
        if column is None and name != "answer":
            column = [""] * count
        if not isinstance(column, Sequence) or isinstance(column, str) or len(column) != count:
            got = len(column) if isinstance(column, list | tuple) else type(column).__name__
            raise ValueError(f"expected {count} values in the column {name!r}, got {got}")
        parts.append(map(str, column))
    return [
        Example(id=row_id, question=question, gold=gold, solution="", judge=judge)
        for row_id, question, gold, judge in zip(*parts, strict=True)
    ]


def columns_of(examples: Sequence[Example]) -> dict[str, list[str]]:
    """What `examples_of` reads."""
    return {
        "id": [example.id for example in examples],
        "question": [example.question for example in examples],
        "answer": [example.gold for example in examples],
        "judge": [example.judge for example in examples],
    }


def example_of(item: Mapping[str, Any]) -> Example:
    """The problem in an item of lm-eval, which has the fields of `Example` among its own."""
    return Example(**{field.name: item[field.name] for field in fields(Example)})


def _key(task: Task, text: str, example: Example) -> bytes:
    """What a grade depends on; short, since databases and programs may be long."""
    digest = sha256(str(id(task)).encode())
    for part in (text, example.question, example.gold, example.judge):
        content = part.encode(errors="surrogatepass")
        digest.update(b"%d:" % len(content))
        digest.update(content)
    return digest.digest()
