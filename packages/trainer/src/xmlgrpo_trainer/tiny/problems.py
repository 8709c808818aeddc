"""Word problems in GSM8K's schema, made by the thousand.

A row is `{"question", "answer"}` as in GSM8K: the answer has one line a step, each with its
calculator note `<<12+4=16>>`, and ends in `#### 16`.  Six families of one to three steps; the
numbers are small, because the model that learns from them has to learn arithmetic in two minutes.

The same seed gives the same problems on every machine.
"""

import random
from collections.abc import Collection
from typing import NamedTuple

from xmlgrpo_trainer.tiny.families import FAMILIES
from xmlgrpo_trainer.tiny.settings import TinySettings
from xmlgrpo_trainer.tiny.story import BOYS, CONTAINERS, GIRLS, ITEMS, Row, Story

STEPS = (1, 2, 3)


def problem(rng: random.Random, largest_operand: int) -> Row:
    """One problem of a random family with one to three steps."""
    girl = rng.random() < 0.5
    name = rng.choice(GIRLS if girl else BOYS)
    item, second_item = rng.sample(ITEMS, 2)
    story = Story(
        rng=rng,
        largest=largest_operand,
        steps=rng.choice(STEPS),
        name=name,
        pronoun="she" if girl else "he",
        other=rng.choice([other for other in GIRLS + BOYS if other != name]),
        item=item,
        second_item=second_item,
        container=rng.choice(CONTAINERS),
    )
    rng.choice(FAMILIES)(story)
    return story.row()


def generate(
    n: int, seed: int | str, *, largest_operand: int = 12, exclude: Collection[str] = ()
) -> list[Row]:
    """`n` problems with different questions, none of them in `exclude`.

    Args:
        n: how many.
        seed: of the generator; a text is as good as a number.
        largest_operand: the largest number added or taken away.
        exclude: questions that must not occur.
    """
    rng = random.Random(seed)  # noqa: S311 - no secret depends on it
    seen = set(exclude)
    rows: list[Row] = []
    while len(rows) < n:
        row = problem(rng, largest_operand)
        if row["question"] not in seen:
            seen.add(row["question"])
            rows.append(row)
    return rows


class Splits(NamedTuple):
    """Three lists of problems that share no question."""

    warm: list[Row]
    train: list[Row]
    holdout: list[Row]


def problem_splits(settings: TinySettings, seed: int, holdout_rows: int, train_rows: int) -> Splits:
    """The problems of one run: warm start, GRPO and held-out.

    No question is in two of them.  The same numbers with other names and things do recur, so
    held-out accuracy says nothing about larger numbers or other kinds of problem.

    The warm start's problems do not depend on the other two sizes: the cached model stays valid
    when those change.
    """
    warm = warm_problems(settings, seed)
    seen = {row["question"] for row in warm}
    largest = settings.largest_operand
    holdout = generate(holdout_rows, f"holdout {seed}", largest_operand=largest, exclude=seen)
    seen |= {row["question"] for row in holdout}
    train = generate(train_rows, f"train {seed}", largest_operand=largest, exclude=seen)
    return Splits(warm, train, holdout)


def warm_problems(settings: TinySettings, seed: int) -> list[Row]:
    """The warm start's problems: a fresh one for every place in every batch."""
    n = settings.warm_steps * settings.warm_batch
    return generate(n, f"warm {seed}", largest_operand=settings.largest_operand)
