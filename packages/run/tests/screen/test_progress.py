"""The one bar of all commands: on terminals of any width, and in plain lines elsewhere."""

import io
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from xmlgrpo_run.screen import progress
from xmlgrpo_run.screen.progress import EDGE_COLUMNS, Stage, clock, counted, growing, rate

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def hand_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    turned = Clock()
    monkeypatch.setattr(time, "monotonic", turned)
    return turned


@pytest.mark.parametrize(
    ("made", "words"),
    [
        pytest.param({"total": None}, "0:00:30", id="nothing-known"),
        pytest.param({"total": None, "unit": "steps"}, "0 steps  0:00:30", id="no-total"),
        pytest.param({"total": 1400, "unit": "steps"}, "0/1,400 steps  0:00:30", id="none-done"),
        pytest.param({"total": 0, "unit": "rows"}, "0/0 rows  0:00:30", id="nothing-to-do"),
    ],
)
def test_a_stage_can_be_shown_before_anything_is_known(
    made: dict[str, object], words: str, hand_clock: Clock
) -> None:
    stage = Stage(Console(quiet=True), "stage", **made)  # type: ignore[arg-type]  # a table's row
    hand_clock.s += 30
    assert stage.figures() == words


def test_rate_and_time_left_are_means_and_count_down_between_updates(hand_clock: Clock) -> None:
    stage = Stage(Console(quiet=True), "stage", total=100, done=40, unit="steps")
    hand_clock.s += 20
    stage.update(50, note="loss 0.1")
    assert stage.figures() == "50/100 steps  2.0 s each  left 0:01:40  loss 0.1"
    hand_clock.s += 30
    assert stage.figures() == "50/100 steps  2.0 s each  left 0:01:10  loss 0.1"
    hand_clock.s += 300  # longer than estimated: never below nothing
    assert "left 0:00:00" in stage.figures()


def test_what_came_before_the_count_does_not_slow_the_rate(hand_clock: Clock) -> None:
    stage = Stage(Console(quiet=True), "stage", unit="steps")
    hand_clock.s += 50
    stage.count_from(0, 200)
    hand_clock.s += 2
    stage.update(100)
    assert stage.figures() == "100/200 steps  50/s  left 0:00:02"


def test_work_that_does_not_report_is_asked(hand_clock: Clock) -> None:
    written = iter([0, 10e6, 10e6, 20e6])
    stage = Stage(Console(quiet=True), "file", total=40e6, unit="bytes", poll=lambda: next(written))
    hand_clock.s += 1
    assert stage.figures() == "0.0/40.0 MB  0:00:01"
    hand_clock.s += 4
    assert stage.figures() == "10.0/40.0 MB  2.0 MB/s  left 0:00:15"
    hand_clock.s += 5  # nothing new: what was estimated counts down
    assert stage.figures() == "10.0/40.0 MB  2.0 MB/s  left 0:00:10"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (counted(3, None, "rows"), "3 rows"),
        (counted(1234, 5678, "rows"), "1,234/5,678 rows"),
        (counted(5e6, 2e9, "bytes"), "0.0/2.0 GB"),
        (counted(5e6, None, "bytes"), "5.0 MB"),
        (rate(0.2, "rows"), "5.0 s each"),
        (rate(4.25, "rows"), "4.2/s"),
        (rate(43.4, "rows"), "43/s"),
        (rate(2.5e6, "bytes"), "2.5 MB/s"),
        (clock(3723.4), "1:02:03"),
    ],
)
def test_figures(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize("width", [40, 80, 100, 120])
@pytest.mark.parametrize("total", [None, 1400])
def test_a_bar_never_takes_more_than_its_line(
    width: int, total: int | None, hand_clock: Clock
) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, _environ={"TERM": "xterm"})
    with Stage(console, "warm start [of] it", total=total, unit="steps") as stage:
        hand_clock.s += 350
        stage.update(700, note="loss 0.123")
        console.print("a line above the bar")
        stage._progress.refresh()
        for words in ("warm words of forty columns and some more", "warm"):
            stage.rename(words)
            stage._progress.refresh()
    lines = re.split(r"[\r\n]+", CONTROL.sub("", out.getvalue()))
    assert any("warm start [of] it" in line and "700" in line for line in lines)
    bars = [line.rstrip() for line in lines if line.startswith("warm")]
    assert max(map(len, bars)) <= width - EDGE_COLUMNS
    assert any("loss 0.123" in bar for bar in bars) == (width >= 80)
    stage.stop()  # a second time does nothing


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda out: Console(file=out, width=118), id="pipe"),
        pytest.param(
            lambda out: Console(file=out, force_terminal=True, width=80, _environ={"TERM": "dumb"}),
            id="dumb",
        ),
    ],
)
def test_without_a_bar_there_are_plain_lines(
    make: Callable[[io.StringIO], Console], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.0)
    monkeypatch.setattr(progress, "NEXT_LINES_S", 0.0)
    out = io.StringIO()
    with Stage(make(out), "exam", total=8, unit="problems") as stage:
        stage.update(4)
        until = time.monotonic() + 60  # it waits a tenth of a second for each of the lines
        while out.getvalue().count("\n") < 2 and time.monotonic() < until:
            time.sleep(0.01)
    lines = out.getvalue().splitlines()
    assert len(lines) >= 2
    assert all(line.startswith("exam  4/8 problems") for line in lines)
    assert "\x1b" not in out.getvalue()


def test_no_stage_is_silent_for_ten_seconds() -> None:
    assert 0 < progress.FIRST_LINE_S < 10
    assert 0 < progress.NEXT_LINES_S < 10


def test_a_stage_that_ends_while_it_reports_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.0)
    monkeypatch.setattr(Stage, "_open", [])  # `stop` took it away just after the wait was over
    stage = Stage(Console(file=io.StringIO()), "exam")
    stage._spoke = stage._began
    ended = iter([False, True])
    monkeypatch.setattr(stage._ended, "wait", lambda _seconds: next(ended))
    stage._report()


def test_a_quiet_console_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.0)
    out = io.StringIO()
    with Stage(Console(file=out, quiet=True, force_terminal=True), "exam", total=8):
        time.sleep(0.2)
    assert out.getvalue() == ""


def test_what_comes_before_the_first_byte_does_not_slow_the_pace(
    tmp_path: Path, hand_clock: Clock
) -> None:
    shown = growing(Console(quiet=True), "converting", 100_000_000, tmp_path.iterdir)
    hand_clock.s += 3600  # reading, computing
    assert shown.figures() == "0.0/100.0 MB  1:00:00"
    path = tmp_path / "file"
    for size, after_s, figures in [
        (2_000, 1, "0.0/100.0 MB  0:00:00"),
        (20_000_000, 2, "20.0/100.0 MB  10.0 MB/s  left 0:00:08"),
        (50_000_000, 3, "50.0/100.0 MB  10.0 MB/s  left 0:00:05"),
        (120_000_000, 5, "100.0/100.0 MB  10.0 MB/s  left 0:00:00"),
    ]:
        hand_clock.s += after_s
        with path.open("ab") as file:
            file.truncate(size)
        assert shown.figures() == figures
