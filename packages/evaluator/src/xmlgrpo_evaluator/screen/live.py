"""What one sees while a model is evaluated: its stages, and a line an item."""

from collections.abc import Callable, Sequence
from functools import cache
from types import TracebackType
from typing import Self

from lm_eval.api.instance import Instance
from rich.cells import cell_len
from rich.console import Console

from xmlgrpo_evaluator.harness.replies import CountedReply
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.prose import one_line
from xmlgrpo_rewards.task import get_task
from xmlgrpo_run.screen.progress import Stage

_task = cache(get_task)  # finding a task scans the installed packages

_SHOWN_CHARS = 40  # of an answer, which may be anything a model wrote
_FEWEST_CHARS = 6


def live_line(
    done: int, total: int, right: Share, answer: str | None, gold: str, *, columns: int = 200
) -> str:
    """One item's line: `[001/100] ✅=1 | Acc=100.00% | Pred: 27 | GT: 27`.

    Args:
        done: replies so far, this one included.
        total: replies in all.
        right: the right ones among those graded so far.
        answer: what was read of the reply; None when no answer could be read.
        gold: the right answer.
        columns: how wide the line may be; long answers are cut to fit.
    """
    width = max(3, len(str(total)))
    start = f"[{done:0{width}d}/{total:0{width}d}] ✅={right.hits} | Acc={right.value:.2%} | Pred: "
    between = " | GT: "
    room = columns - cell_len(start) - cell_len(between)
    most = max(_FEWEST_CHARS, min(_SHOWN_CHARS, room // 2))
    shown = "none" if answer is None else one_line(answer, most)
    return f"{start}{shown}{between}{one_line(gold, most)}"


def final_line(share: Share) -> str:
    """The result: `Final accuracy: 88.00% (88/100), 95% interval 80.2% to 93.0%`."""
    return (
        f"Final accuracy: {share.value:.2%} ({share.hits}/{share.total}), "
        f"95% interval {share.low:.1%} to {share.high:.1%}"
    )


class Stages:
    """One stage after another on one console; a context manager.

    Attributes:
        shown: the stage that is shown now, if any.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self.shown: Stage | None = None

    def begin(
        self,
        words: str,
        *,
        total: float | None = None,
        unit: str = "",
        poll: Callable[[], float] | None = None,
    ) -> Stage:
        """End the stage that is shown and show the next; the arguments are `Stage`'s."""
        self.end()
        self.shown = Stage(self._console, words, total=total, unit=unit, poll=poll)
        self.shown.start()
        return self.shown

    def end(self) -> None:
        """End the stage that is shown, if any."""
        if self.shown is not None:
            self.shown.stop()
            self.shown = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


class Live:
    """The stage in which a model answers; the listener of a `ResumableLM`.

    Items of tasks that xmlgrpo_rewards does not grade move the bar only.

    Args:
        stages: where it is shown.
        console: where the lines go.
        label: which model.
        quiet: no line an item.
        unreported: how many replies are finished that it has not heard of: an engine tells them
            when its whole batch is.
    """

    def __init__(
        self,
        stages: Stages,
        console: Console,
        label: str,
        *,
        quiet: bool,
        unreported: Callable[[], int] = lambda: 0,
    ) -> None:
        self._stages, self._console, self._label, self._quiet = stages, console, label, quiet
        self._unreported = unreported
        self._done = self._total = self._graded = self._correct = 0
        self._stage: Stage | None = None

    def begin(self, requests: Sequence[Instance]) -> None:
        """Take note of how many replies, or scores, there will be."""
        self._total += len(requests)
        self._stage = self._stages.begin(self._label, unit="items", poll=self._finished)
        self._stage.count_from(self._done, self._total)

    def __call__(self, request: Instance, reply: CountedReply, *, new: bool = True) -> None:
        """Show one reply; one that is not new says nothing about the pace."""
        self._count(new=new)
        doc = request.doc
        if not {"task", "gold", "user_text"} <= doc.keys():
            return
        grade = _task(doc["task"]).grade(reply, doc["gold"])
        self._graded += 1
        self._correct += grade.strict_correct
        if self._quiet:
            return
        right, columns = Share(self._correct, self._graded), self._console.width
        gold = doc["gold"]
        line = live_line(self._done, self._total, right, grade.answer, gold, columns=columns)
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        if self._stage is not None:
            self._stage.spoken()

    def _finished(self) -> int:
        return self._done + self._unreported()

    def scored(self) -> None:
        """Count an item that was scored, not answered."""
        self._count(new=True)

    def _count(self, *, new: bool) -> None:
        self._done += 1
        if self._stage is None:
            return
        if new:
            self._stage.update(self._done)
        else:
            self._stage.count_from(self._done, self._total)
