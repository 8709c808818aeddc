"""Held-out problems are asked, greedily, and the replies are graded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from xmlgrpo_rewards.grading import grade_all
from xmlgrpo_rewards.numbers import is_worked
from xmlgrpo_rewards.task import Example, Task
from xmlgrpo_rollout.engine import Engine, Sampling
from xmlgrpo_run.files import write_json_lines
from xmlgrpo_run.measures.holdout import HoldoutResult, Item
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_trainer.problems.prompts import encode_prompts
from xmlgrpo_trainer.ranks.processes import ALONE, Ranks


@dataclass(frozen=True, slots=True)
class Exam:
    """How problems are asked, the same way before, during and after training."""

    engine: Engine  # answers prompts (token ids) with completions (token ids)
    tokenizer: Any
    task: Task
    sampling: Sampling  # greedy, so that a result can be repeated
    stops: Sequence[int]  # ids that end a reply; one without was cut at the length limit
    batch_size: int  # prompts asked at once, by all ranks together
    console: Console
    ranks: Ranks = ALONE  # they share the prompts


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


def save_items(path: Path, task: Task, problems: Sequence[Example]) -> None:
    """Write held-out problems as rows of the task's own form, for `make eval` of this run."""
    write_json_lines(path, ({"id": problem.id, **task.row(problem)} for problem in problems))
