"""Generated problems of a task for a run on its tiny base: three parts that share no question.

They come from one generator, so that the forms of questions and the words in them recur: held-out
accuracy says nothing about other kinds of problem.
"""

import hashlib
from collections.abc import Collection
from itertools import islice
from typing import NamedTuple

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Example, Task, extras
from xmlgrpo_trainer.tiny.settings import TinySettings

MADE_UP_SUMS = "gsm8k"  # the task of the embedded default, whose problems are `tiny.problems`


def has_own_base(task: Task) -> bool:
    """Whether it makes rows, and so a base of its own, in place of the made-up sums."""
    return task.name != MADE_UP_SUMS and extras(task).generated is not None


class Splits(NamedTuple):
    """Three lists of problems that share no question."""

    warm: list[Example]
    train: list[Example]
    holdout: list[Example]


def task_splits(
    task: Task, settings: TinySettings, seed: int, holdout_rows: int, train_rows: int
) -> Splits:
    """The problems of one run: warm start, GRPO and held-out.

    The warm start's do not depend on the other two sizes: the cached base stays valid when those
    change.

    Raises:
        UserError: the task makes too few.
    """
    warm = warm_problems(task, settings, seed)
    asked = {problem.question for problem in warm}
    holdout = _fresh(task, holdout_rows, "held-out", seed, asked)
    asked |= {problem.question for problem in holdout}
    return Splits(warm, _fresh(task, train_rows, "generated", seed, asked), holdout)


def warm_problems(task: Task, settings: TinySettings, seed: int) -> list[Example]:
    """The warm start's problems: a fresh one for every place in every batch."""
    return _fresh(task, settings.warm_steps * settings.warm_batch, "warm", seed, ())


def _fresh(task: Task, count: int, part: str, seed: int, asked: Collection[str]) -> list[Example]:
    """The first `count` problems of a part's own stream whose question is not `asked` yet."""
    stream = int.from_bytes(hashlib.sha256(f"{part} {seed}".encode()).digest()[:4])
    generated = extras(task).generated
    if generated is None:
        raise UserError(f"the task {task.name!r} makes no rows of its own; give it a file of some")
    rows = generated(count + len(asked), stream)
    made = (task.example(row, f"{part}:{number}") for number, row in enumerate(rows, start=1))
    fresh = list(islice((one for one in made if one.question not in asked), count))
    if len(fresh) < count:
        raise UserError(
            f"the task {task.name!r} makes {len(fresh):,} problems for the part {part!r} that no "
            f"other part has, and {count:,} are wanted; lower data.generated_rows, "
            "holdout.report_rows, or model.tiny.warm_steps"
        )
    return fresh
