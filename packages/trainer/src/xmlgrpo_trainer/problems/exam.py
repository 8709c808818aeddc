"""Held-out accuracy: what the model answers, greedily, to problems it never trained on.

Four shares measure four things.  Strict format: was the reply in the form asked for?  Strict
accuracy: in that form *and* right?  Lenient accuracy: is the last number of the reply right,
whatever its form?  Worked: is a sum written out?  A gain in strict accuracy alone may be format
only; lenient accuracy cannot be lifted by format.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from xmlgrpo_rewards.grading import grade_all
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.numbers import is_worked
from xmlgrpo_rewards.task import Example, Task
from xmlgrpo_rollout.engine import Engine, Sampling
from xmlgrpo_run.files import read_sealed, write_sealed, write_text
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_trainer.problems.prompts import encode_prompts
from xmlgrpo_trainer.ranks.processes import ALONE, Ranks


@dataclass(frozen=True, slots=True)
class Item:
    """One held-out problem and the reply to it."""

    id: str
    question: str
    gold: str
    reply: str
    tokens: int
    strict_format: bool
    strict_correct: bool
    lenient_correct: bool
    worked: bool
    truncated: bool
    answered: bool
    note: str = ""  # why the reply is not right, where the task says so


# a share of the items -> the field that is counted
SHARES = {
    "strict_format": "strict_format",
    "strict_accuracy": "strict_correct",
    "lenient_accuracy": "lenient_correct",
    "worked": "worked",
    "truncated": "truncated",
}


@dataclass(frozen=True, slots=True)
class HoldoutResult:
    """The replies to a set of held-out problems at one step, and their shares."""

    step: int
    items: tuple[Item, ...]

    def share(self, name: str) -> Share:
        """One of `SHARES`."""
        return Share(sum(getattr(item, SHARES[name]) for item in self.items), len(self.items))

    def metrics(self) -> dict[str, Any]:
        """The shares as hits and totals, and the mean reply length in tokens."""
        total = len(self.items)
        shares = {name: self.share(name) for name in SHARES}
        shares["no_answer"] = Share(sum(not item.answered for item in self.items), total)
        mean = round(sum(item.tokens for item in self.items) / max(1, total), 2)
        return {**{name: asdict(share) for name, share in shares.items()}, "mean_tokens": mean}


@dataclass(frozen=True, slots=True)
class Exam:
    """How problems are asked, the same way before, during and after training.

    Attributes:
        engine: answers prompts (token ids) with completions (token ids).
        sampling: greedy, so that a result can be repeated.
        stops: the ids that end a reply; a reply without one was cut at the length limit.
        batch_size: prompts asked at once, by all ranks together.
        ranks: they share the prompts.
    """

    engine: Engine
    tokenizer: Any
    task: Task
    sampling: Sampling
    stops: Sequence[int]
    batch_size: int
    console: Console
    ranks: Ranks = ALONE


def take(exam: Exam, words: str, problems: Sequence[Example], step: int) -> HoldoutResult:
    """Ask every problem once and grade the replies; every rank calls it and gets all of them.

    Args:
        words: what the stage on the screen is called.
        step: the training step, for the record.
    """
    exam.engine.refresh()
    prompts = encode_prompts(exam.tokenizer, [exam.task.messages(p.question) for p in problems])
    replies: list[list[int]] = []

    def answered() -> int:
        return len(replies) + getattr(exam.engine, "finished", 0)  # within a batch

    with Stage(exam.console, words, total=len(problems), unit="problems", poll=answered):
        for start in range(0, len(prompts), exam.batch_size):
            replies += _replies(exam, prompts[start : start + exam.batch_size])
    texts = exam.tokenizer.batch_decode(replies, skip_special_tokens=True)
    items = []
    grades = grade_all(exam.task, texts, problems)
    for problem, ids, text, grade in zip(problems, replies, texts, grades, strict=True):
        items.append(
            Item(
                id=problem.id,
                question=problem.question,
                gold=problem.gold,
                reply=text,
                tokens=len(ids),
                strict_format=grade.strict_format,
                strict_correct=grade.strict_correct,
                lenient_correct=grade.lenient_correct,
                worked=is_worked(text),
                truncated=not ids or ids[-1] not in exam.stops,
                answered=grade.answered,
                note=grade.note,
            )
        )
    return HoldoutResult(step=step, items=tuple(items))


def _replies(exam: Exam, prompts: list[list[int]]) -> list[list[int]]:
    """The tokens of every reply; greedy, they do not depend on which rank gives them."""
    count = exam.ranks.count
    own = prompts[exam.ranks.index :: count]  # in turn, so that long prompts spread
    tokens = [reply.tokens for reply in exam.engine(own, 1, exam.sampling)] if own else []
    replies: list[list[int]] = [[] for _ in prompts]
    for rank, part in enumerate(exam.ranks.gather(tokens)):
        replies[rank::count] = part
    return replies


def save_result(path: Path, result: HoldoutResult) -> None:
    """Write a result with every reply."""
    write_sealed(
        path,
        {
            "step": result.step,
            "metrics": result.metrics(),
            "items": [asdict(item) for item in result.items],
        },
    )


def read_result(path: Path) -> HoldoutResult:
    """Read what `save_result` wrote.

    Raises:
        UserError: it is not what was written.
    """
    stored = read_sealed(path)
    return HoldoutResult(stored["step"], tuple(Item(**item) for item in stored["items"]))


def save_items(path: Path, task: Task, problems: Sequence[Example]) -> None:
    """Write held-out problems as rows of the task's own form, for `make eval` of this run."""
    rows = [{"id": problem.id, **task.row(problem)} for problem in problems]
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
