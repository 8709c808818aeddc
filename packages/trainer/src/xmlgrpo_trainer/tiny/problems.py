"""Word problems in GSM8K's schema, made by the thousand.

A row is `{"question", "answer"}` as in GSM8K: the answer has one line per step, each with its
calculator note `<<12+4=16>>`, and ends in `#### 16`.  Six families of one to three steps; the
numbers are small, because the model that learns from them has to learn arithmetic in two minutes.

The same seed gives the same problems on every machine.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from xmlgrpo_trainer.tiny.settings import TinySettings

Row = dict[str, str]

GIRLS = ("Mia", "Anna", "Lucy", "Emma", "Ruby", "Sara", "Nina", "Julia", "Betty", "Clara")
BOYS = ("Tom", "Ben", "Jack", "Leo", "Sam", "Adam", "Max", "Paul", "Noah", "Oscar")
ITEMS = (
    *("apples", "pens", "books", "cards", "coins", "shells", "stickers", "marbles"),
    *("eggs", "cookies", "stamps", "beads", "toys", "cups", "balls"),
)
CONTAINERS = ("boxes", "bags", "baskets", "packs", "jars")
JOBS = ("paints", "cleans", "cooks", "gardens", "drives", "teaches")
SMALLEST_FACTOR, LARGEST_FACTOR = 2, 9
STEPS = (1, 2, 3)


@dataclass(slots=True)
class Story:
    """A word problem while it is being written: its sentences, and its solution line by line."""

    rng: random.Random  # where its numbers are from
    largest: int  # the largest number added or taken away
    steps: int  # how many calculations it asks for
    name: str  # who it is about
    pronoun: str  # of that person
    other: str  # whom they meet
    item: str  # what it is about
    second_item: str
    container: str
    sentences: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # of the solution, one per calculation
    value: int = 0  # the result of the last calculation

    def tell(self, *ways_to_say: str) -> None:
        """Add one sentence, said in one of these ways."""
        self.sentences.append(self.rng.choice(ways_to_say))

    def work(self, subject: str, left: int, sign: str, right: int, unit: str = "") -> int:
        """Add the line `subject 12+4 = <<12+4=16>>16 unit.` and return the result.

        Amounts of money have the unit "$", which stands before the number.
        """
        self.value = {
            "+": left + right,
            "-": left - right,
            "*": left * right,
            "/": left // right,
        }[sign]
        currency, noun = ("$", "") if unit == "$" else ("", f" {unit}" if unit else "")
        sum_ = f"{left}{sign}{right}"
        self.lines.append(
            f"{subject} {sum_} = {currency}<<{sum_}={self.value}>>{self.value}{noun}."
        )
        return self.value

    def addend(self) -> int:
        """A number to add; from 2, so that "more eggs" is always right."""
        return self.rng.randint(2, self.largest)

    def part_of(self, total: int) -> int:
        """A number to take from `total`, which must be 2 or more; something is left."""
        return self.rng.randint(1, min(total - 1, self.largest))

    def factor(self, largest: int = LARGEST_FACTOR) -> int:
        """A number to multiply or divide by."""
        return self.rng.randint(SMALLEST_FACTOR, largest)

    def row(self) -> Row:
        """The finished problem in GSM8K's schema."""
        answer = "\n".join([*self.lines, f"#### {self.value}"])
        return {"question": " ".join(self.sentences), "answer": answer}


def changes(story: Story) -> None:
    """One heap that grows and shrinks, a step a change."""
    name, they, item = story.name, story.pronoun, story.item
    heap = story.rng.randint(3, story.largest)
    story.tell(f"{name} has {heap} {item}.")
    for step in range(story.steps):
        subject = f"Then {they} has" if step else f"{name} has"
        if heap > 3 and story.rng.random() < 0.5:
            lost = story.part_of(heap)
            story.tell(
                f"{they.capitalize()} gives {lost} to {story.other}.",
                f"{they.capitalize()} loses {lost} of them.",
                f"{they.capitalize()} sells {lost} of them.",
            )
            heap = story.work(subject, heap, "-", lost, item)
        else:
            gained = story.addend()
            story.tell(
                f"{they.capitalize()} buys {gained} more.",
                f"{they.capitalize()} finds {gained} more.",
                f"{story.other} gives {name} {gained} more.",
            )
            heap = story.work(subject, heap, "+", gained, item)
    story.tell(f"How many {item} does {name} have now?")


def containers(story: Story) -> None:
    """Full containers, then single items added or given away."""
    name, they, item = story.name, story.pronoun, story.item
    count, size = story.factor(), story.factor()
    story.tell(f"{name} has {count} {story.container} with {size} {item} in each.")
    total = story.work(f"{name} has", count, "*", size, item)
    for _ in range(story.steps - 1):
        if total > 1 and story.rng.random() < 0.5:
            given = story.part_of(total)
            story.tell(f"{they.capitalize()} gives {given} of them to {story.other}.")
            total = story.work(f"Then {they} has", total, "-", given, item)
        else:
            bought = story.addend()
            story.tell(f"{they.capitalize()} buys {bought} more {item}.")
            total = story.work(f"Then {they} has", total, "+", bought, item)
    story.tell(f"How many {item} does {name} have {'in total' if story.steps == 1 else 'now'}?")


def shopping(story: Story) -> None:
    """Packs at a price; with two steps something more, with three a second kind of pack."""
    name, item, second = story.name, story.item, story.second_item
    packs, price = story.factor(), story.factor()
    bought = f"{name} buys {packs} packs of {item} for ${price} each"
    cost = story.work(f"The {item} cost", packs, "*", price, "$")
    if story.steps == 1:
        story.tell(f"{bought}.")
    elif story.steps == 2:
        extra = story.addend()
        story.tell(f"{bought} and a bag of {second} for ${extra}.")
        story.work(f"{name} pays", cost, "+", extra, "$")
    else:
        more_packs, more_price = story.factor(5), story.factor(5)
        story.tell(f"{bought} and {more_packs} packs of {second} for ${more_price} each.")
        more = story.work(f"The {second} cost", more_packs, "*", more_price, "$")
        story.work(f"{name} pays", cost, "+", more, "$")
    story.tell(f"How much does {name} pay?")


def comparing(story: Story) -> None:
    """Two people, the second's heap told through the first's."""
    name, other, item = story.name, story.other, story.item
    how = story.rng.choice(("more", "fewer", "times"))
    if how == "times":
        first, times = story.factor(), story.factor(4)
        compared = f"{other} has {times} times as many."
        second = story.work(f"{other} has", first, "*", times, item)
    elif how == "more":
        first, extra = story.rng.randint(3, story.largest), story.addend()
        compared = f"{other} has {extra} more than {name}."
        second = story.work(f"{other} has", first, "+", extra, item)
    else:
        first = story.rng.randint(3, story.largest)
        missing = story.part_of(first)
        compared = f"{other} has {missing} fewer than {name}."
        second = story.work(f"{other} has", first, "-", missing, item)
    story.tell(f"{name} has {first} {item}.")
    story.tell(compared)
    if story.steps == 1:
        story.tell(f"How many {item} does {other} have?")
        return
    together = story.work("Together they have", first, "+", second, item)
    if story.steps == 2:
        story.tell(f"How many {item} do they have together?")
        return
    sold = story.part_of(together)
    story.tell(f"They sell {sold} of their {item}.")
    story.work("They have left", together, "-", sold, item)
    story.tell(f"How many {item} do they have left?")


def sharing(story: Story) -> None:
    """A heap put equally into containers; the only family that divides."""
    name, they, item = story.name, story.pronoun, story.item
    into, each = story.factor(6), story.factor()
    total = into * each
    if story.steps == 1:
        story.tell(f"{name} puts {total} {item} equally into {into} {story.container}.")
    else:
        bought = story.part_of(total)
        story.tell(f"{name} has {total - bought} {item} and buys {bought} more.")
        story.tell(f"{they.capitalize()} puts them equally into {into} {story.container}.")
        story.work(f"{name} has", total - bought, "+", bought, item)
    story.work("Each has", total, "/", into, item)
    if story.steps == 3:
        added = story.addend()
        story.tell(f"Then {they} adds {added} more {item} to one of them.")
        story.work("That one has", each, "+", added, item)
        story.tell(f"How many {item} are in that one?")
    else:
        story.tell(f"How many {item} are in each?")


def earning(story: Story) -> None:
    """Hours at a wage, then money spent and received."""
    name, they = story.name, story.pronoun
    wage, hours = story.factor(), story.factor()
    job = story.rng.choice(JOBS)
    story.tell(f"{name} {job} for ${wage} an hour and works {hours} hours.")
    money = story.work(f"{name} earns", wage, "*", hours, "$")
    if story.steps == 1:
        story.tell(f"How much does {name} earn?")
        return
    spent = story.part_of(money)
    story.tell(f"{they.capitalize()} spends ${spent}.")
    money = story.work(f"{they.capitalize()} has left", money, "-", spent, "$")
    if story.steps == 2:
        story.tell(f"How much money does {name} have left?")
        return
    given = story.addend()
    story.tell(f"Then {story.other} gives {name} ${given}.")
    story.work(f"Then {they} has", money, "+", given, "$")
    story.tell(f"How much money does {name} have now?")


FAMILIES = (changes, containers, shopping, comparing, sharing, earning)


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
    """`n` problems with different questions, none of them in `exclude`."""
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
