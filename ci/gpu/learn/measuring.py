"""Word problems of the curriculum about money, time and ways: rates, prices, profits."""

from saying import PERCENTAGES, say

from xmlgrpo_trainer.tiny.story import Story


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
