"""Held-out accuracy: what the model answers, greedily, to problems it never trained on.

Four shares tell four things apart.  Strict format: was the reply in the form asked for?  Strict
accuracy: in that form *and* right?  Lenient accuracy: is the last number of the reply right,
whatever its form?  Worked: is a sum written out?  A gain in strict accuracy alone may be format
only; lenient accuracy cannot be lifted by format.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.task import Example, Task
from xmlgrpo_rewards.worked import is_worked
from xmlgrpo_rollout.engine import Engine
from xmlgrpo_rollout.sampling import Sampling
from xmlgrpo_run.files import read_json, write_json, write_text
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


@dataclass(frozen=True, slots=True)
class HoldoutResult:
    """The replies to a set of held-out problems at one step, and their shares."""

    step: int
    items: tuple[Item, ...]

    def share(self, name: str) -> Share:
        """The share of items whose boolean field `name` is true."""
        return Share(sum(getattr(item, name) for item in self.items), len(self.items))

    def metrics(self) -> dict[str, Any]:
        """The shares as hits and totals, and the mean reply length in tokens."""
        shares = {
            "strict_format": self.share("strict_format"),
            "strict_accuracy": self.share("strict_correct"),
            "lenient_accuracy": self.share("lenient_correct"),
            "worked": self.share("worked"),
            "truncated": self.share("truncated"),
            "no_answer": Share(sum(not item.answered for item in self.items), len(self.items)),
        }
        mean = sum(item.tokens for item in self.items) / max(1, len(self.items))
        return {
            **{name: {"hits": s.hits, "total": s.total} for name, s in shares.items()},
            "mean_tokens": round(mean, 2),
        }


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
    ranks: Ranks = ALONE


def take(
    exam: Exam,
    problems: Sequence[Example],
    step: int,
    on_progress: Callable[[int], None] = lambda _done: None,
) -> HoldoutResult:
    """Ask every problem once and grade the replies; every rank calls it and gets all of them.

    Args:
        step: the training step, for the record.
        on_progress: called with the number of problems answered so far.
    """
    exam.engine.refresh()
    prompts = encode_prompts(exam.tokenizer, [exam.task.messages(p.question) for p in problems])
    completions: list[list[int]] = []
    for start in range(0, len(prompts), exam.batch_size):
        completions += _replies(exam, prompts[start : start + exam.batch_size])
        on_progress(len(completions))
    texts = exam.tokenizer.batch_decode(completions, skip_special_tokens=True)
    items = []
    for problem, ids, text in zip(problems, completions, texts, strict=True):
        grade = exam.task.grade(text, problem.gold)
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


def take_shown(
    console: Console, words: str, exam: Exam, problems: Sequence[Example], step: int
) -> HoldoutResult:
    """`take`, with a stage on the console; it moves within a batch where the engine counts."""
    answered = 0

    def on_progress(done: int) -> None:
        nonlocal answered
        answered = done

    def finished() -> int:
        return answered + getattr(exam.engine, "finished", 0)

    with Stage(console, words, total=len(problems), unit="problems", poll=finished):
        return take(exam, problems, step, on_progress)


def save_result(path: Path, result: HoldoutResult) -> None:
    """Write a result with every reply."""
    write_json(
        path,
        {
            "step": result.step,
            "metrics": result.metrics(),
            "items": [asdict(item) for item in result.items],
        },
    )


def read_result(path: Path) -> HoldoutResult:
    """Read what `save_result` wrote."""
    stored = read_json(path)
    return HoldoutResult(stored["step"], tuple(Item(**item) for item in stored["items"]))


def save_items(path: Path, task: Task, problems: Sequence[Example]) -> None:
    """Write held-out problems as rows of the task's own form, for `make eval` of this run."""
    rows = [{"id": problem.id, **task.row(problem)} for problem in problems]
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
