"""Made-up word problems, longer, larger and of more kinds than the embedded default's.

A row is `{"question", "answer"}` in GSM8K's schema, as in `xmlgrpo_trainer.tiny.problems`, whose
`Story` tells these too and whose six families are a part of them.  Fifteen families more, two to
six calculations each: relations between people, rates, prices, fractions, percentages, averages.
"""

import random
from collections.abc import Collection
from itertools import pairwise

from xmlgrpo_trainer.tiny.problems import BOYS, CONTAINERS, GIRLS, ITEMS, Row, Story, problem

MORE_NAMES = ("Weng", "Natalia", "Carlos", "Priya", "Omar", "Grace", "Kevin", "Yuki", "Ivan", "Zoe")
THINGS = (*ITEMS, "flowers", "photos", "candles", "tickets", "oranges", "pencils", "muffins")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
FRACTIONS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}
TIMES = {2: "twice", 3: "three times", 4: "four times", 5: "five times"}
PERCENTAGES = (10, 20, 25, 50, 75)
EASY_OPERANDS = (12, 30, 60)  # largest ones, where a problem is the embedded default's


def relations(story: Story) -> None:
    """A chain of people, each compared with the one before; then a sum or a difference."""
    people = story.rng.sample(GIRLS + BOYS + MORE_NAMES, 4)
    heap = story.rng.randint(4, 40)
    story.tell(f"{people[0]} has {heap} {story.item}.", f"{people[0]} owns {heap} {story.item}.")
    heaps = [heap]
    for before, person in pairwise(people[: story.rng.randint(2, 4)]):
        how = story.rng.choice(("times", "more", "fewer", "half"))
        if how == "half" and heap % 2 == 0:
            story.tell(f"{person} has half as many as {before}.")
            heap = story.work(f"{person} has", heap, "/", 2, story.item)
        elif how == "times" and heap <= 100:
            times = story.rng.choice(tuple(TIMES))
            story.tell(f"{person} has {TIMES[times]} as many {story.item} as {before}.")
            heap = story.work(f"{person} has", heap, "*", times, story.item)
        elif how == "fewer" and heap > 3:
            fewer = story.rng.randint(2, heap - 1)
            story.tell(f"{person} has {say(story, fewer)} fewer {story.item} than {before}.")
            heap = story.work(f"{person} has", heap, "-", fewer, story.item)
        else:
            more = story.rng.randint(2, 40)
            story.tell(f"{person} has {say(story, more)} more {story.item} than {before}.")
            heap = story.work(f"{person} has", heap, "+", more, story.item)
        heaps.append(heap)
    if max(heaps) > min(heaps) and story.rng.random() < 0.3:
        high, low = max(heaps), min(heaps)
        rich, poor = people[heaps.index(high)], people[heaps.index(low)]
        story.work("The difference is", high, "-", low, story.item)
        story.tell(f"How many more {story.item} does {rich} have than {poor}?")
        return
    total = heaps[0]
    for other in heaps[1:]:
        total = story.work("Together that is", total, "+", other, story.item)
    story.tell(f"How many {story.item} do they have altogether?", "How many is that in total?")


def rates(story: Story) -> None:
    """So many a day, for days and weeks, perhaps sold at a price."""
    name, item = story.name, story.item
    a_day, days, weeks = story.rng.randint(2, 25), story.rng.randint(3, 7), story.rng.randint(2, 6)
    story.tell(
        f"{name} makes {say(story, a_day)} {item} a day, {days} days a week.",
        f"Every day {name} makes {a_day} {item}, and works {say(story, days)} days each week.",
    )
    made = story.work(f"In a week {name} makes", a_day, "*", days, item)
    if story.steps > 1:
        made = story.work(f"In {weeks} weeks that is", made, "*", weeks, item)
    if story.steps < 3:
        span = "a week" if story.steps == 1 else f"{say(story, weeks)} weeks"
        story.tell(f"How many {item} does {name} make in {span}?")
        return
    price = story.rng.randint(2, 9)
    story.tell(f"Each one is sold for ${price}.")
    story.work(f"{name} earns", made, "*", price, "$")
    story.tell(f"How much does {name} earn in {say(story, weeks)} weeks?")


def bill(story: Story) -> None:
    """Two kinds of things at two prices, paid with a note; the total or the change."""
    name, item, second = story.name, story.item, story.second_item
    n, p = story.rng.randint(2, 12), story.rng.randint(2, 15)
    m, q = story.rng.randint(2, 12), story.rng.randint(2, 15)
    story.tell(
        f"{name} buys {say(story, n)} {item} at ${p} each, {m} {second} at ${q} each.",
        f"{item.capitalize()} cost ${p} each and {second} cost ${q} each. {name} buys {n} {item} "
        f"and {m} {second}.",
    )
    first = story.work(f"The {item} cost", n, "*", p, "$")
    other = story.work(f"The {second} cost", m, "*", q, "$")
    total = story.work("Together they cost", first, "+", other, "$")
    if story.steps == 1:
        story.tell(f"How much does {name} spend in total?")
        return
    paid = next(note for note in (50, 100, 200, 500) if note > total)
    story.tell(f"{name} pays with ${paid}.")
    story.work("The change is", paid, "-", total, "$")
    story.tell(f"How much change does {name} get?", f"How much money does {name} get back?")


def fractions(story: Story) -> None:
    """A part of a whole, and a part of what is left."""
    name, item = story.name, story.item
    k, j = story.rng.choice(tuple(FRACTIONS)), story.rng.choice(tuple(FRACTIONS))
    whole = k * j * story.rng.randint(2, 12)
    story.tell(f"{name} has {whole} {item}.")
    story.tell(f"{story.pronoun.capitalize()} gives {FRACTIONS[k]} of them to {story.other}.")
    given = story.work(f"{story.other} gets", whole, "/", k, item)
    left = story.work(f"{name} has left", whole, "-", given, item)
    if story.steps > 1 and left % j == 0:
        story.tell(f"Then {story.pronoun} sells {FRACTIONS[j]} of the rest.")
        sold = story.work(f"{name} sells", left, "/", j, item)
        story.work("That leaves", left, "-", sold, item)
    story.tell(f"How many {item} does {name} have left?", f"How many {item} are left?")


def percentages(story: Story) -> None:
    """A percentage of a number, and the rest."""
    percent, whole = story.rng.choice(PERCENTAGES), 20 * story.rng.randint(2, 30)
    story.tell(f"There are {whole} {story.item} in a shop and {percent}% of them are red.")
    tens = story.work("First", whole, "*", percent)
    red = story.work("The red ones are", tens, "/", 100, story.item)
    if story.steps == 1:
        story.tell(f"How many {story.item} are red?")
        return
    story.work("The others are", whole, "-", red, story.item)
    story.tell(f"How many {story.item} are not red?")


def discount(story: Story) -> None:
    """A price, less a percentage, times a number."""
    percent, price, n = story.rng.choice(PERCENTAGES), 20 * story.rng.randint(1, 12), story.factor()
    story.tell(f"A box of {story.item} costs ${price}, but today it is {percent}% off.")
    tens = story.work("First", price, "*", percent)
    off = story.work("The discount is", tens, "/", 100, "$")
    now = story.work("A box costs", price, "-", off, "$")
    if story.steps == 1:
        story.tell("How much does a box cost today?")
        return
    story.tell(f"{story.name} buys {say(story, n)} boxes.")
    story.work(f"{story.name} pays", now, "*", n, "$")
    story.tell(f"How much does {story.name} pay?")


def travel(story: Story) -> None:
    """Two stretches at two speeds; the way or what is left of it."""
    v, t = story.rng.randint(3, 60), story.rng.randint(2, 6)
    w, u = story.rng.randint(3, 60), story.rng.randint(2, 6)
    they = story.pronoun.capitalize()
    story.tell(f"{story.name} drives {t} hours at {v} miles an hour.")
    first = story.work("First", v, "*", t, "miles")
    story.tell(f"{they} then drives {say(story, u)} hours at {w} miles an hour.")
    second = story.work("Then", w, "*", u, "miles")
    total = story.work("In all", first, "+", second, "miles")
    if story.steps < 3:
        story.tell(f"How many miles does {story.name} drive?", "How far is that in total?")
        return
    whole = total + story.rng.randint(5, 90)
    story.tell(f"The whole trip is {whole} miles long.")
    story.work("There are left", whole, "-", total, "miles")
    story.tell("How many miles are left?")


def dozens(story: Story) -> None:
    """Dozens, some used, the rest packed."""
    size, packs = story.rng.randint(2, 6), story.rng.randint(2, 12)
    n = -(-size * packs // 12) + story.rng.randint(0, 3)
    whole = 12 * n
    used = whole - size * packs
    story.tell(f"{story.name} has {say(story, n)} dozen {story.item}.")
    story.work(f"{story.name} has", n, "*", 12, story.item)
    if used:
        story.tell(f"{story.pronoun.capitalize()} uses {used} of them.")
        story.work("That leaves", whole, "-", used, story.item)
    story.tell(f"The rest are packed {say(story, size)} to a box.")
    story.work("The number of boxes is", size * packs, "/", size, "boxes")
    story.tell("How many boxes are needed?", "How many boxes is that?")


def profit(story: Story) -> None:
    """What comes in less what goes out."""
    n, cost, gain = story.rng.randint(5, 60), story.rng.randint(1, 9), story.rng.randint(1, 12)
    name, item = story.name, story.item
    story.tell(f"{name} buys {n} {item} for ${cost} each and sells all of them at ${cost + gain}.")
    if story.rng.random() < 0.5:
        paid = story.work(f"{name} pays", n, "*", cost, "$")
        earned = story.work(f"{name} gets", n, "*", cost + gain, "$")
        story.work("The profit is", earned, "-", paid, "$")
    else:
        each = story.work("The profit on each is", cost + gain, "-", cost, "$")
        story.work("In all that is", n, "*", each, "$")
    story.tell(f"What is {name}'s profit?", f"How much profit does {name} make?")


def ages(story: Story) -> None:
    """Ages now, related, and in some years."""
    young, times, years = (
        story.rng.randint(4, 20),
        story.rng.choice((2, 3)),
        story.rng.randint(2, 15),
    )
    story.tell(f"{story.name} is {young} years old. {story.other} is {TIMES[times]} as old.")
    old = story.work(f"{story.other} is", young, "*", times, "years old")
    if story.steps == 1:
        story.work("Their ages add up to", young, "+", old, "years")
        story.tell("What is the sum of their ages?", "How old are they together?")
        return
    old = story.work(f"In {years} years {story.other} will be", old, "+", years, "years old")
    if story.steps == 2:
        story.tell(f"How old will {story.other} be in {say(story, years)} years?")
        return
    young = story.work(f"{story.name} will be", young, "+", years, "years old")
    story.work("Together", young, "+", old, "years")
    story.tell(f"What will be the sum of their ages in {say(story, years)} years?")


def minutes(story: Story) -> None:
    """So many minutes each; in hours when there are three steps."""
    each = story.rng.choice((5, 10, 12, 15, 20, 30))
    hours = story.rng.randint(1, 8)
    n = hours * 60 // each
    story.tell(f"{story.name} needs {each} minutes to paint one of the {story.item}.")
    if story.steps == 1:
        story.tell(f"How many minutes does {story.name} need for {n}?")
        story.work(f"{story.name} needs", n, "*", each, "minutes")
        return
    days = story.rng.randint(2, 6)
    story.tell(f"{story.pronoun.capitalize()} paints {n} of them a day.")
    a_day = story.work("A day takes", n, "*", each, "minutes")
    a_day = story.work("In hours that is", a_day, "/", 60, "hours")
    story.work(f"In {days} days it is", a_day, "*", days, "hours")
    story.tell(f"How many hours does {story.name} work in {say(story, days)} days?")


def average(story: Story) -> None:
    """The mean of three numbers."""
    low = [story.rng.randint(3, 60) for _ in range(2)]
    last = 3 * story.rng.randint(sum(low) // 3 + 1, sum(low) // 3 + 20) - sum(low)
    story.tell(
        f"{story.name} finds {low[0]} {story.item} on Monday, {low[1]} on Tuesday and "
        f"{last} on Friday."
    )
    total = story.work("The first two days give", low[0], "+", low[1], story.item)
    total = story.work("In all", total, "+", last, story.item)
    if story.steps == 1:
        story.tell(f"How many {story.item} is that in total?")
        return
    story.work("The average is", total, "/", 3, story.item)
    story.tell(f"How many {story.item} does {story.name} find a day on average?")


def saving(story: Story) -> None:
    """Money that is there, money that comes, and how long it takes."""
    weekly, weeks, have = (
        story.rng.randint(3, 30),
        story.rng.randint(2, 12),
        story.rng.randint(5, 90),
    )
    they = story.pronoun.capitalize()
    goal = have + weekly * weeks
    story.tell(f"{story.name} wants a bike that costs ${goal} and has ${have} already.")
    story.tell(f"{they} saves ${weekly} a week.", f"{they} puts aside ${weekly} every week.")
    missing = story.work(f"{story.name} still needs", goal, "-", have, "$")
    story.work("That takes", missing, "/", weekly, "weeks")
    story.tell(f"How many weeks does {story.name} have to save?", "How many weeks does it take?")


def reading(story: Story) -> None:
    """A book, read in parts."""
    first, times = story.rng.randint(5, 40), story.rng.choice(tuple(TIMES))
    book = first * (1 + times) + 2 * story.rng.randint(3, 60)
    they = story.pronoun
    story.tell(f"{story.name} reads a book of {book} pages. On Monday {they} reads {first} pages.")
    story.tell(f"On Tuesday {they} reads {TIMES[times]} as many.")
    second = story.work(f"On Tuesday {they} reads", first, "*", times, "pages")
    read = story.work("In two days that is", first, "+", second, "pages")
    left = story.work("There are left", book, "-", read, "pages")
    if story.steps == 1:
        story.tell("How many pages are left?")
        return
    story.work("Half of them is", left, "/", 2, "pages")
    story.tell(
        f"{they.capitalize()} wants to read half of the rest on Friday. How many pages is that?"
    )


def sums(story: Story) -> None:
    """Bare arithmetic, a calculation a step."""
    value = story.rng.randint(2, 99)
    asked = str(value)
    for _ in range(story.steps):
        sign = story.rng.choice("+-*/")
        divisors = [n for n in range(2, 13) if value % n == 0]
        if sign == "/" and divisors:
            other = story.rng.choice(divisors)
        elif sign == "*" and value <= 300:
            other = story.rng.randint(2, 12)
        elif sign == "-" and value > 2:
            other = story.rng.randint(1, value - 1)
        else:
            sign, other = "+", story.rng.randint(2, 99)
        asked += {"+": " plus ", "-": " minus ", "*": " times ", "/": " divided by "}[sign]
        asked += f"{other}," if story.steps > 1 else str(other)
        value = story.work("That is", value, sign, other)
    story.tell(f"What is {asked.rstrip(',')}?", f"Work out step by step: {asked.rstrip(',')}.")


FAMILIES = (
    *(relations, relations, rates, bill, fractions, percentages, discount, travel, dozens),
    *(profit, ages, minutes, average, saving, reading, sums, sums),
)


def say(story: Story, number: int) -> str:
    """A number in digits, and now and then a small one in words."""
    return WORDS[number] if number < len(WORDS) and story.rng.random() < 0.3 else str(number)


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
