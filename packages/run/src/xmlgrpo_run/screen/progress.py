"""How far a stage has come: the one bar of all commands, and plain lines where no bar can be drawn.

On a terminal a stage is a bar with its count, rate and time left, which goes away at the end.  Into
a pipe, a file or a terminal without cursor movement (`TERM=dumb`) it is a plain line after a
second and every few seconds from then on, so that no stage is silent for ten seconds.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from xmlgrpo_rewards.prose import one_line

FIRST_LINE_S = 1.0
NEXT_LINES_S = 8.0
BAR_COLUMNS, LEAST_BAR_COLUMNS = 30, 4
CLOCK_COLUMNS = 7  # what the figures take at least
FIGURES_COLUMNS = 48  # what the figures take beside a bar, about: a rate and a note too
EDGE_COLUMNS = 3  # left free: there a terminal writes ^C, which must not begin another line
MEASURABLE_S = 0.1  # a rate over less is none
MB, GB = 1e6, 1e9

T = TypeVar("T")


class Stage:
    """Shows one stage; a context manager, or `start` and `stop`.

    Other lines may be printed to the same console meanwhile: they appear above the bar.

    Args:
        console: where to; one that is `quiet` shows nothing.
        words: what is being done, in a few words.
        total: how many there are to do; None while that is not known, which shows the time passed
            in place of the time left.
        unit: what is counted, in the plural; `bytes` are shown as MB or GB.
        done: how many are done already; they say nothing about the rate.
        poll: asked for the number done whenever something is drawn, for work that does not report.
    """

    _open: ClassVar[list["Stage"]] = []  # the innermost last: it alone speaks in plain lines

    def __init__(
        self,
        console: Console,
        words: str,
        *,
        total: float | None = None,
        unit: str = "",
        done: float = 0,
        poll: Callable[[], float] | None = None,
    ) -> None:
        self._console, self._unit, self._poll = console, unit, poll
        self._done, self._total, self._note = done, total, ""
        self._begin(done)
        self._draws = console.is_interactive and not console.quiet
        self._bar_column, self._figures = BarColumn(), _Figures(self)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            self._bar_column,
            self._figures,
            console=console,
            transient=True,
            disable=not self._draws,
        )
        self._bar = self._progress.add_task("", total=total)
        self.rename(words)
        self._ended = Event()
        self._reporter: Thread | None = None

    def rename(self, words: str) -> None:
        """Show it under these words from now on."""
        room = self._console.width - EDGE_COLUMNS - 2
        most = room - LEAST_BAR_COLUMNS - CLOCK_COLUMNS if self._draws else room
        self._words = one_line(words, max(1, most))
        room -= len(self._words)
        most_bar = min(BAR_COLUMNS, room - FIGURES_COLUMNS)
        bar = self._bar_column.bar_width = max(LEAST_BAR_COLUMNS, most_bar)
        self._figures.columns = max(1, room - bar)
        self._progress.update(self._bar, description=self._words)

    def _begin(self, done: float) -> None:
        self._began = self._counted_s = time.monotonic()
        self._first = done

    def start(self) -> None:
        """Show it from now on."""
        self._begin(self._done)
        self._spoke = self._began
        Stage._open.append(self)
        self._progress.update(self._bar, completed=self._done)
        self._progress.start()
        if not (self._draws or self._console.quiet):
            self._reporter = Thread(target=self._report, name="progress", daemon=True)
            self._reporter.start()

    def stop(self) -> None:
        """Take it away; a second call does nothing."""
        self._progress.stop()
        self._ended.set()
        if self in Stage._open:
            Stage._open.remove(self)
        if self._reporter is not None:
            self._reporter.join()
            self._reporter = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def count_from(self, done: float, total: float | None, unit: str | None = None) -> None:
        """What is counted begins only now: the rate is measured from here.

        Args:
            unit: what is counted from now on, where that changes; it reports by itself then.
        """
        self._begin(done)
        self._done, self._total = done, total
        if unit is not None:
            self._unit, self._poll = unit, None
        self._progress.update(self._bar, completed=done, total=total)

    def expect(self, total: float | None) -> None:
        """How many there will be is known now."""
        self._total = total
        self._progress.update(self._bar, total=total)

    def update(self, done: float, *, note: str = "") -> None:
        """So many are done now.

        Args:
            note: a few words behind the figures, where there is room.
        """
        self._done, self._note = done, note
        self._counted_s = time.monotonic()
        self._progress.update(self._bar, completed=done)

    def through(self, items: Collection[T]) -> Iterator[T]:
        """Count the items of a loop."""
        self.count_from(0, len(items))
        for done, item in enumerate(items, start=1):
            yield item
            self.update(done)

    def note_output(self) -> None:
        """Something was printed about this stage: no plain line for a while."""
        self._spoke = time.monotonic()

    @property
    def left_s(self) -> float | None:
        """Seconds left at the mean rate since the beginning; None when nothing is known.

        Between two updates it counts down: what has not been reported may be done all the same.
        """
        new = self._done - self._first
        if self._total is None or new <= 0:
            return None
        estimate = (self._total - self._done) * (self._counted_s - self._began) / new
        return max(0.0, estimate - (time.monotonic() - self._counted_s))

    def figures(self, *, note: bool = True) -> str:
        """Count, rate and time left, as far as they are known, else the time passed."""
        if self._poll is not None and (done := self._poll()) != self._done:
            self.update(done, note=self._note)
        known = [] if not self._unit else [counted(self._done, self._total, self._unit)]
        new, seconds = self._done - self._first, self._counted_s - self._began
        if self._unit and new > 0 and seconds >= MEASURABLE_S:
            known.append(rate(new / seconds, self._unit))
        left_s = self.left_s
        if left_s is None:
            known.append(clock(time.monotonic() - self._began))
        else:
            known.append(f"left {clock(left_s)}")
        return "  ".join([*known, self._note] if self._note and note else known)

    def _report(self) -> None:
        """Print plain lines until the end; the body of a thread."""
        patience_s = FIRST_LINE_S
        while not self._ended.wait(max(0.1, self._spoke + patience_s - time.monotonic())):
            if Stage._open[-1:] != [self]:  # `stop` may have emptied it meanwhile
                self.note_output()
            if time.monotonic() < self._spoke + patience_s:
                continue
            self._console.print(
                Text(f"{self._words}  {self.figures()}"), highlight=False, soft_wrap=True
            )
            self.note_output()
            patience_s = NEXT_LINES_S


class _Figures(ProgressColumn):
    """A stage's figures beside its bar."""

    columns = 1

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage

    def render(self, task: Task) -> Text:
        figures = self._stage.figures()
        if len(figures) > self.columns:
            figures = self._stage.figures(note=False)
        shown = Text(figures, style="progress.remaining", no_wrap=True)
        shown.truncate(self.columns, overflow="ellipsis")
        return shown


def counted(done: float, total: float | None, unit: str) -> str:
    """`400/1,400 steps`, `12.5/730.0 MB`; without a total `400 steps`."""
    digits = ",.0f"
    if unit == "bytes":
        scale, unit = (GB, "GB") if max(done, total or 0) >= GB else (MB, "MB")
        done, total, digits = done / scale, total and total / scale, ",.1f"
    shown = f"{done:{digits}}"
    return f"{shown} {unit}" if total is None else f"{shown}/{total:{digits}} {unit}"


def rate(per_s: float, unit: str) -> str:
    """`43/s`, `2.5 MB/s`; under one a second `2.3 s each`."""
    if unit == "bytes":
        return f"{per_s / MB:,.1f} MB/s"
    if per_s < 1:
        return f"{1 / per_s:.1f} s each"
    return f"{per_s:,.0f}/s" if per_s >= 10 else f"{per_s:.1f}/s"


def clock(seconds: float) -> str:
    """`0:00:43`: hours too, since a run may take more than one; years that nobody waits are cut."""
    longest_s = timedelta.max.total_seconds() - 1
    return str(timedelta(seconds=round(max(-longest_s, min(longest_s, seconds)))))


def growing(
    console: Console, words: str, expected_bytes: int, files: Callable[[], Iterable[Path]]
) -> Stage:
    """A stage that shows files growing to about the size that they will have.

    What is computed before the first byte says nothing about the pace of those that follow.

    Args:
        files: those that are written; one that is not there counts nothing.
    """
    begun = False

    def written() -> float:
        nonlocal begun
        size = min(sum(map(_bytes, files())), expected_bytes)
        if size and not begun:
            begun = True
            stage.count_from(size, expected_bytes)
        return size

    stage = Stage(console, words, total=expected_bytes, unit="bytes", poll=written)
    return stage


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # not begun yet, or renamed this moment
        return 0
