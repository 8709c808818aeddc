"""What one sees while a model is evaluated, a line per item among it; its speed."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from lm_eval.api.instance import Instance
from rich.cells import cell_len
from rich.console import Console

from xmlgrpo_evaluator.journal import CountedReply
from xmlgrpo_rewards.grading import example_of, grade_all
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.prose import one_line
from xmlgrpo_rewards.task import Grade, get_task
from xmlgrpo_run.screen.progress import Stage

_task = cache(get_task)  # finding a task scans the installed packages

_SHOWN_CHARS = 40  # of an answer, which may be anything a model wrote
_FEWEST_CHARS = 6
OTHER_FORM = "right, other form"


class Screen:
    """One stage after another of one model's evaluation, and a line per item unless `quiet`.

    Items of tasks that xmlgrpo_rewards does not grade move the bar only.
    """

    def __init__(self, console: Console, label: str, *, quiet: bool) -> None:
        self.console, self._label, self._quiet = console, label, quiet
        self.shown: Stage | None = None
        self._done, self._total, self._note = 0, 0, ""
        # of sampled replies (True) and the others: how many were asked for, done, graded, right
        self._asked, self._seen, self._graded, self._right = (Counter[bool]() for _ in range(4))
        self._tokens, self._began, self._cpu_began = 0, 0.0, 0.0

    def stage(self, words: str, **options: Any) -> Stage:
        """End the stage that is shown and show the next; the options are `Stage`'s."""
        self.close()
        title = f"{self._label}: {words}" if words else self._label
        self.shown = Stage(self.console, title, **options)
        self.shown.start()
        return self.shown

    def close(self) -> None:
        """End the stage that is shown, if any."""
        if self.shown is not None:
            self.shown.stop()
            self.shown = None

    def begin(
        self, requests: Sequence[Instance], unreported: Callable[[], int] = lambda: 0
    ) -> None:
        """These are answered, or scored, from now on.

        `unreported` is how many replies are finished that `reply` has not got: an engine hands them
        on when its whole batch is finished.
        """
        self._total += len(requests)
        self._asked.update(map(is_sampled, requests))
        unit = "replies" if self._asked[True] else "items"
        stage = self.stage("", unit=unit, poll=lambda: self._done + unreported())
        stage.count_from(self._done, self._total)
        if not self._began:
            self._began, self._cpu_began = time.perf_counter(), time.process_time()

    def reply(self, request: Instance, reply: CountedReply, *, new: bool = True) -> None:
        """Show one reply; one that is not new says nothing about the pace.

        Sampled replies, of which there are many, have no line: their share stands beside the bar.
        """
        sampled = is_sampled(request)
        self._count(new=new, sampled=sampled)
        self._tokens += reply.tokens if new else 0
        doc = request.doc
        if not {"task", "gold", "judge", "user_text"} <= doc.keys():
            return
        [grade] = grade_all(_task(doc["task"]), [reply], [example_of(doc)])
        self._graded[sampled] += 1
        self._right[sampled] += grade.strict_correct
        share = Share(self._right[sampled], self._graded[sampled])
        if sampled:
            self._note = f"sampled {share.value:.1%} right"
        if sampled or self._quiet:
            return
        line = live_line(
            self._seen[False],
            self._asked[False],
            share,
            grade.answer,
            doc["gold"],
            note=grade.note or (OTHER_FORM if _is_in_other_form(grade) else ""),
            columns=self.console.width,
        )
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        if self.shown is not None:
            self.shown.note_output()

    def scored(self) -> None:
        """Count an item that was scored, not answered."""
        self._count(new=True, sampled=False)

    def _count(self, *, new: bool, sampled: bool) -> None:
        self._done += 1
        self._seen[sampled] += 1
        if self.shown is None:
            return
        if new:
            self.shown.update(self._done, note=self._note)
        else:
            self.shown.count_from(self._done, self._total)

    def speed(self) -> dict[str, Any]:
        """Time and tokens since the first item was asked, without loading; JSON values."""
        seconds = time.perf_counter() - self._began if self._began else 0.0
        cpu_seconds = time.process_time() - self._cpu_began if self._began else 0.0
        return {
            "reply_tokens": self._tokens,
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu_seconds, 3),
            "tokens_per_s": round(self._tokens / seconds, 2) if self._tokens else None,
        }


def _is_in_other_form(grade: Grade) -> bool:
    """The answer is right, and is not counted in the line's ✅."""
    return grade.lenient_correct and not grade.strict_correct


def is_sampled(request: Instance) -> bool:
    """Whether the reply to a request is drawn, not greedy."""
    options = request.args[1] if len(request.args) > 1 else None
    return isinstance(options, dict) and bool(options.get("do_sample"))


def live_line(
    done: int,
    total: int,
    right: Share,
    answer: str | None,
    gold: str,
    *,
    note: str = "",
    columns: int = 200,
) -> str:
    """One item's line: `[001/100] ✅=1 | Acc=100.00% | Pred: 27 | GT: 27`.

    `right` is of the replies graded so far, `answer` None when none could be read; long answers are
    cut to fit the columns.  `note` says why it is wrong, where there is room.
    """
    width = max(3, len(str(total)))
    start = f"[{done:0{width}d}/{total:0{width}d}] ✅={right.hits} | Acc={right.value:.2%} | Pred: "
    between = " | GT: "
    room = columns - cell_len(start) - cell_len(between)
    most = max(_FEWEST_CHARS, min(_SHOWN_CHARS, room // 2))
    shown = "none" if answer is None else one_line(answer, most)
    line = f"{start}{shown}{between}{one_line(gold, most)}"
    room = columns - cell_len(line) - len(" | ")
    return f"{line} | {one_line(note, room)}" if note and room >= _FEWEST_CHARS else line


def final_line(share: Share) -> str:
    """The result: `Final accuracy: 88.00% (88/100), 95% interval 80.2% to 93.0%`."""
    return (
        f"Final accuracy: {share.value:.2%} ({share.hits}/{share.total}), "
        f"95% interval {share.low:.1%} to {share.high:.1%}"
    )
