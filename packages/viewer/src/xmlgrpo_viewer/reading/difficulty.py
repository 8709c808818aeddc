"""How hard a problem is: the steps of its worked solution."""

from collections.abc import Mapping

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.rows import text_rows
from xmlgrpo_rewards.task import get_task
from xmlgrpo_run.measures.holdout import HoldoutResult
from xmlgrpo_run.measures.summary import MOST_STEPS
from xmlgrpo_viewer.reading.run_view import RunView


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
