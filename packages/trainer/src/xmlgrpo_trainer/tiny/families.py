"""The six families of the embedded default's word problems, of one to three calculations each."""

from xmlgrpo_trainer.tiny.story import Story

JOBS = ("paints", "cleans", "cooks", "gardens", "drives", "teaches")


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
