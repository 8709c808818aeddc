"""A few validation problems, the same ones all through a run, and how each was answered over time.

They are the first ones, so that nothing that happens in the run chooses them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from xmlgrpo_run.measures.holdout import Item
from xmlgrpo_viewer.reading.run_view import RunView

FOLLOWED = 3  # problems


@dataclass(frozen=True, slots=True)
class Stretch:
    """Validations in a row that got the same reply."""

    first: int  # steps
    last: int
    answer: Item

    @property
    def steps(self) -> str:
        """When, in words."""
        return f"step {self.first}" + (f" to {self.last}" if self.last > self.first else "")


@dataclass(frozen=True, slots=True)
class Followed:
    """One problem with its answers, at each validation and without repetition."""

    answers: tuple[Item, ...]
    stretches: tuple[Stretch, ...]


def followed(view: RunView) -> list[Followed]:
    """The first problems of the first validation, as far as the later ones asked them, too."""
    rounds = [answers for answers in view.validations if answers.items]
    first = rounds[0].items[:FOLLOWED] if rounds else ()
    found = []
    for problem in first:
        given = [(one.step, item) for one in rounds for item in one.items if item.id == problem.id]
        stretches = tuple(_stretches(given))
        found.append(Followed(tuple(item for _, item in given), stretches))
    return found


def _stretches(given: list[tuple[int, Item]]) -> Iterator[Stretch]:
    for _, same in groupby(given, lambda one: one[1].reply):
        ones = list(same)
        yield Stretch(ones[0][0], ones[-1][0], ones[0][1])
