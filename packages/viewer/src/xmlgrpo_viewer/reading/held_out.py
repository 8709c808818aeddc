"""Held-out problems: base against tuned on the same ones, and how hard each is."""

from collections.abc import Mapping
from dataclasses import dataclass

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.rows import text_rows
from xmlgrpo_rewards.task import get_task
from xmlgrpo_run.measures.holdout import HoldoutResult, Item
from xmlgrpo_run.measures.paired import Paired, pair
from xmlgrpo_run.measures.summary import MOST_STEPS
from xmlgrpo_viewer.reading.run_view import RunView


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


def steps_of_problems(view: RunView) -> Mapping[str, int]:
    """Held-out problem's id -> lines of its solution; empty where the task gives no solutions."""
    if view.task is None or not view.run.holdout_items.is_file():
        return {}
    try:
        task = get_task(view.task)
        examples = [
            task.example(row.fields, str(row.fields.get("id", row.id)))
            for row in text_rows(view.run.holdout_items)
        ]
    except UserError:
        return {}
    return {one.id: min(one.steps, MOST_STEPS) for one in examples if one.steps}


def by_difficulty(answers: HoldoutResult, steps: Mapping[str, int]) -> Mapping[int, Share]:
    """Steps -> share of the problems of so many steps whose answer is right in the asked form."""
    groups: dict[int, list[bool]] = {}
    for item in answers.items:
        if item.id in steps:
            groups.setdefault(steps[item.id], []).append(item.strict_correct)
    return {count: Share(sum(right), len(right)) for count, right in sorted(groups.items())}
