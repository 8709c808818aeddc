"""A word problem while it is being written: its sentences, and its solution line by line."""

import random
from dataclasses import dataclass, field

Row = dict[str, str]

GIRLS = ("Mia", "Anna", "Lucy", "Emma", "Ruby", "Sara", "Nina", "Julia", "Betty", "Clara")
BOYS = ("Tom", "Ben", "Jack", "Leo", "Sam", "Adam", "Max", "Paul", "Noah", "Oscar")
ITEMS = (
    *("apples", "pens", "books", "cards", "coins", "shells", "stickers", "marbles"),
    *("eggs", "cookies", "stamps", "beads", "toys", "cups", "balls"),
)
CONTAINERS = ("boxes", "bags", "baskets", "packs", "jars")
SMALLEST_FACTOR, LARGEST_FACTOR = 2, 9


@dataclass(slots=True)
class Story:
    """A word problem while it is being written.

    Attributes:
        rng: where its numbers come from.
        largest: the largest number added or taken away.
        steps: how many calculations it asks for.
        name, pronoun, other: who it is about, and whom they meet.
        item, second_item, container: what it is about.
        sentences: of the problem so far.
        lines: the worked solution so far, one line a calculation.
        value: the result of the last calculation.
    """

    rng: random.Random
    largest: int
    steps: int
    name: str
    pronoun: str
    other: str
    item: str
    second_item: str
    container: str
    sentences: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    value: int = 0

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
