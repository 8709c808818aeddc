"""Replies in another form than the one asked for: what the rewards of the form pay in any task."""

from collections.abc import Iterator

from xmlgrpo_rewards.reply import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    REASONING_CLOSE,
    REASONING_OPEN,
    render,
)
from xmlgrpo_rewards.task import Hack
from xmlgrpo_tasks.graded_task import FORM


def out_of_form(gold: str, content: float) -> Iterator[Hack]:
    """The right answer in a wrong form, or the right form around nothing.

    Args:
        gold: what would be the right answer.
        content: what the task pays for the parts of it in an answer block, all but its being right.
    """
    right = render("Step by step.", gold)
    reasoning, block = right.split(f"{REASONING_CLOSE}\n")
    fence = f"```\n{gold}\n```"
    for name, reply, earns in (
        ("empty", "", 0.0),
        ("untagged", gold, 0.0),
        ("untagged-fence", fence, 0.0),
        ("untagged-reasoning", f"{REASONING_OPEN}\n{gold}", 0.125),
        ("no-reasoning", render("", gold), content + 0.5),
        ("answer-in-the-reasoning", render(gold, "see above"), FORM),
        ("answer-alone", block, content + 0.25),
        ("answer-empty", render(gold, ""), 0.5),
        ("answer-not-closed", right.removesuffix(ANSWER_CLOSE), 0.375),
        ("answer-first", f"{block}\n{reasoning}{REASONING_CLOSE}", 0.25),
        ("answer-twice", f"{right}\n{block}", 0.25),
        ("empty-answer-first", f"{ANSWER_OPEN}\n{ANSWER_CLOSE}\n{right}", 0.25),
        ("on-one-line", right.replace("\n", ""), content + 1.0),
        ("text-before", f"Sure:\n{right}", content + 0.5),
        ("text-after", f"{right}\nI hope this helps!", content + 0.5),
        ("reply-twice", f"{right}\n{right}", 0.0),
        ("reply-many-times", right * 1_000, 0.0),
    ):
        yield Hack(name, reply, earns)
