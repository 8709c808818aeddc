"""Base against tuned on the same held-out problems."""

from dataclasses import dataclass

from xmlgrpo_run.measures.holdout import HoldoutResult, Item
from xmlgrpo_run.measures.paired import Paired, pair


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sets of replies to the same problems, item by item."""

    first: HoldoutResult
    second: HoldoutResult

    def table(self, name: str) -> Paired:
        """How both did by the attribute `name` of `Item`."""
        sides = ([getattr(item, name) for item in side.items] for side in (self.first, self.second))
        return pair(*sides)

    def flips(self) -> dict[str, list[tuple[Item, Item]]]:
        """The problems that only the second got right, and those that only the first did."""
        found: dict[str, list[tuple[Item, Item]]] = {"gained": [], "lost": []}
        for one, other in zip(self.first.items, self.second.items, strict=True):
            if one.strict_correct != other.strict_correct:
                found["lost" if one.strict_correct else "gained"].append((one, other))
        return found


def paired(first: HoldoutResult | None, second: HoldoutResult | None) -> Pair | None:
    """The pair; None where one is missing, or they are not of the same problems."""
    if first is None or second is None or not first.items:
        return None
    asked = [[(item.id, item.question) for item in side.items] for side in (first, second)]
    return Pair(first, second) if asked[0] == asked[1] else None
