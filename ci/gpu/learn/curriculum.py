"""Made-up word problems, longer, larger and of more kinds than the embedded default's.

A row is `{"question", "answer"}` in GSM8K's schema, as in `xmlgrpo_trainer.tiny.problems`, whose
`Story` tells these too and whose six families are a part of them.  Fifteen families more, two to
six calculations each: relations between people, rates, prices, fractions, percentages, averages.
"""

import random
from collections.abc import Collection

from counting import (
    MORE_NAMES,
    ages,
    average,
    dozens,
    fractions,
    percentages,
    reading,
    relations,
    sums,
)
from measuring import bill, discount, minutes, profit, rates, saving, travel

from xmlgrpo_trainer.tiny.problems import problem
from xmlgrpo_trainer.tiny.story import BOYS, CONTAINERS, GIRLS, ITEMS, Row, Story

THINGS = (*ITEMS, "flowers", "photos", "candles", "tickets", "oranges", "pencils", "muffins")
EASY_OPERANDS = (12, 30, 60)  # largest ones, where a problem is the embedded default's

FAMILIES = (
    *(relations, relations, rates, bill, fractions, percentages, discount, travel, dozens),
    *(profit, ages, minutes, average, saving, reading, sums, sums),
)


def make(rng: random.Random, easy: float) -> Row:
    """One problem of a random family; so large a share are the embedded default's."""
    if rng.random() < easy:
        return problem(rng, rng.choice(EASY_OPERANDS))
    girl = rng.random() < 0.5
    name, other = rng.choice(GIRLS if girl else BOYS), rng.choice(MORE_NAMES)
    item, second_item = rng.sample(THINGS, 2)
    story = Story(
        rng=rng,
        largest=60,
        steps=rng.choice((1, 2, 3)),
        name=name,
        pronoun="she" if girl else "he",
        other=other,
        item=item,
        second_item=second_item,
        container=rng.choice(CONTAINERS),
    )
    rng.choice(FAMILIES)(story)
    return story.row()


def generate(n: int, seed: str, *, easy: float, exclude: Collection[str] = ()) -> list[Row]:
    """`n` problems of `make` with different questions, none of them in `exclude`."""
    rng = random.Random(seed)  # noqa: S311 - no secret depends on it
    seen = set(exclude)
    rows: list[Row] = []
    while len(rows) < n:
        row = make(rng, easy)
        if row["question"] not in seen:
            seen.add(row["question"])
            rows.append(row)
    return rows
