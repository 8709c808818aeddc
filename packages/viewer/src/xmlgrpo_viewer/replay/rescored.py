"""The kept completions of a run under another set of rewards, or another version of the grader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.grading import columns_of, grade_all
from xmlgrpo_rewards.task import get_task
from xmlgrpo_rewards.total import load_rewards, total
from xmlgrpo_viewer.reading.run_view import RunView
from xmlgrpo_viewer.reading.sampled import Sampled, read_sampled

STRETCHES = 6


@dataclass(frozen=True, slots=True)
class Rescored:
    """One completion with what it earned, and what it would have earned."""

    sampled: Sampled
    before: float
    after: float
    parts: Mapping[str, float | None]  # of what it would have earned, before the weights
    is_right: bool  # in the asked form, as it is graded today

    @property
    def was_right(self) -> bool:
        """As it was graded when it was drawn."""
        return self.sampled.outcome == "right"


def rescore(view: RunView, rewards: Mapping[str, float]) -> list[Rescored]:
    """Pay every kept completion anew.

    Args:
        rewards: name or import path -> weight, as in a configuration.

    Raises:
        UserError: the run has kept no completion, its task is not installed, or a reward is none.
    """
    sampled, unread = read_sampled(view)
    if view.task is None:
        why = view.unread[0] if view.unread else f"it has no {view.run.config.name}"
        raise UserError(f"{view.run.called} cannot be paid anew: {why}")
    if not sampled:
        why = f" ({unread[0]})" if unread else ""
        raise UserError(
            f"{view.run.called} has kept no completion{why}; watch.samples_kept says how many of a "
            "step are kept"
        )
    task = get_task(view.task)
    loaded = load_rewards(rewards, task)
    examples = [one.example for one in sampled]
    texts = [one.text for one in sampled]
    prompts = [task.messages(example.question) for example in examples]
    paid = total(loaded, texts, prompts=prompts, **columns_of(examples))
    grades = grade_all(task, texts, examples)
    return [
        Rescored(one, one.pay(view.weights), new.value, new.parts, grade.strict_correct)
        for one, new, grade in zip(sampled, paid, grades, strict=True)
    ]


def by_stretch(rescored: Sequence[Rescored]) -> list[tuple[str, float, float]]:
    """Mean pay before and after in equal stretches of the training: steps, before, after."""
    steps = sorted({one.sampled.step for one in rescored})
    width = -(-len(steps) // STRETCHES)
    rows = []
    for start in range(0, len(steps), width):
        part = set(steps[start : start + width])
        ones = [one for one in rescored if one.sampled.step in part]
        means = fmean(one.before for one in ones), fmean(one.after for one in ones)
        rows.append((f"{min(part)} to {max(part)}", *means))
    return rows


def other_winners(rescored: Sequence[Rescored]) -> tuple[int, int]:
    """In how many groups another completion would have been the best paid, of how many."""
    changed = groups = 0
    for _, group in groupby(rescored, key=lambda o: (o.sampled.step, o.sampled.example.question)):
        ones = list(group)
        if len(ones) > 1:
            groups += 1
            best = max(one.before for one in ones), max(one.after for one in ones)
            before = {id(one) for one in ones if one.before == best[0]}
            changed += before.isdisjoint(id(one) for one in ones if one.after == best[1])
    return changed, groups
