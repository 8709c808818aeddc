"""What one sees while a model is evaluated: a line an item, a bar with rate and time left."""

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from types import TracebackType
from typing import Self

from lm_eval.api.instance import Instance
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from xmlgrpo_evaluator.replies import CountedReply
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.task import get_task

_task = cache(get_task)  # finding a task scans the installed packages

_SHOWN_CHARS = 40  # of an answer, which may be anything a model wrote


def live_line(done: int, total: int, right: Share, answer: str | None, gold: str) -> str:
    """One item's line: `[001/100] ✅=1 | Acc=100.00% | Pred: 27 | GT: 27`.

    Args:
        done: replies so far, this one included.
        total: replies in all.
        right: the right ones among those graded so far.
        answer: what was read of the reply; None when no answer could be read.
        gold: the right answer.
    """
    width = max(3, len(str(total)))
    shown = "none" if answer is None else _one_line(answer)
    return (
        f"[{done:0{width}d}/{total:0{width}d}] ✅={right.hits} | Acc={right.value:.2%} | "
        f"Pred: {shown} | GT: {_one_line(gold)}"
    )


def final_line(share: Share) -> str:
    """The result: `Final accuracy: 88.00% (88/100), 95% interval 80.2% to 93.0%`."""
    return (
        f"Final accuracy: {share.value:.2%} ({share.hits}/{share.total}), "
        f"95% interval {share.low:.1%} to {share.high:.1%}"
    )


def pace(new: int, to_come: int, seconds: float) -> tuple[str, str]:
    """Replies a second and the time left, in words.

    The mean since the first was asked: replies come in batches, so that the latest few say nothing.
    """
    if not new or seconds <= 0:
        return "", ""
    left = timedelta(seconds=round(to_come * seconds / new))
    return f"{new / seconds:.1f}/s", f"left {left}"


class Live:
    """Shows progress; a context manager and the listener of a `ResumableLM`.

    Items of tasks that xmlgrpo_rewards does not grade move the bar only.

    Args:
        console: where to.
        label: which model.
        quiet: no line an item.
    """

    def __init__(self, console: Console, label: str, *, quiet: bool) -> None:
        self._console, self._quiet = console, quiet
        self._done = self._total = self._graded = self._correct = 0
        self._began, self._new = time.monotonic(), 0
        self._progress = Progress(
            TextColumn(escape(label)),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task("", total=None, rate="", left="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, requests: Sequence[Instance]) -> None:
        """Take note of how many replies there will be."""
        self._total += len(requests)
        if not self._new:
            self._began = time.monotonic()
        self._progress.update(self._bar, total=self._total)

    def __call__(self, request: Instance, reply: CountedReply, *, new: bool = True) -> None:
        """Show one reply; one that is not new says nothing about the pace."""
        self._done += 1
        self._new += new
        doc = request.doc
        if {"task", "gold", "user_text"} <= doc.keys():
            grade = _task(doc["task"]).grade(reply, doc["gold"])
            self._graded += 1
            self._correct += grade.strict_correct
            right = Share(self._correct, self._graded)
            line = live_line(self._done, self._total, right, grade.answer, doc["gold"])
            if not self._quiet:
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        rate, left = pace(self._new, self._total - self._done, time.monotonic() - self._began)
        self._progress.update(self._bar, advance=1, rate=rate, left=left)


def _one_line(text: str) -> str:
    """Text that a terminal may be given: one short line without control characters."""
    visible = "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))
    return visible if len(visible) <= _SHOWN_CHARS else f"{visible[: _SHOWN_CHARS - 1]}…"
