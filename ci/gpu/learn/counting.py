"""Word problems of the curriculum about people, ages and heaps of things, and bare sums."""

from itertools import pairwise

from saying import FRACTIONS, PERCENTAGES, TIMES, say

from xmlgrpo_trainer.tiny.story import BOYS, GIRLS, Story

MORE_NAMES = ("Weng", "Natalia", "Carlos", "Priya", "Omar", "Grace", "Kevin", "Yuki", "Ivan", "Zoe")


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
