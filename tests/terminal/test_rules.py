"""The rules themselves, on small commands that break one of them, and on some that keep all."""

import sys

import pytest

from . import shown
from .screen import SCREENS, Recording, Screen, record, started
from .shown import check, longest_silence, replay

pytestmark = pytest.mark.terminal

BAR = """\
from time import sleep
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
figures = TextColumn("{task.completed}/{task.total} steps  left 0:00:0{task.completed}")
with Progress(TextColumn("warm start"), BarColumn(), figures, transient=True) as bar:
    item = bar.add_task("", total=3)
    for step in range(3):
        bar.update(item, completed=step, refresh=True)
        bar.console.print("a line above the bar")
"""
# a column that formats a total which is not known yet
NONE_TOTAL = """\
from rich.progress import Progress, TextColumn
with Progress(TextColumn("{task.completed:.0f}/{task.total:.0f} steps")) as bar:
    bar.add_task("warm start", total=None)
"""
BUSY = """\
import time
print("begun", flush=True)
while time.process_time() < 2.0:
    pass
time.sleep(1.5)
"""
INTERRUPTED = """\
import sys, time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""


def python(program: str, screen: Screen) -> Recording:
    return record([sys.executable, "-c", program], screen)


@pytest.mark.parametrize(
    ("program", "on", "reason"),
    [
        pytest.param(NONE_TOTAL, "80", "exit code 1", id="column-formats-none"),
        pytest.param(
            "import traceback\ntry: 1/0\nexcept Exception: traceback.print_exc()",
            "80",
            "Traceback",
            id="traceback-with-exit-code-0",
        ),
        pytest.param("import warnings; warnings.warn('old')", "dumb", "warning", id="warning"),
        pytest.param("raise SystemExit(3)", "pipe", "exit code 3", id="exit-code"),
        pytest.param("print('xy ' * 34)", "100", "wider than the screen", id="one-column-too-many"),
        pytest.param("print('步 ' * 27)", "80", "wider than the screen", id="wide-characters"),
        pytest.param(
            "print('.' * 112, 'took 43\\nsteps')", "120", "43 steps", id="unit-on-the-next-line"
        ),
        pytest.param(
            "print('.' * 70, 'left\\n  0:00:43')", "80", "left 0:00:43", id="time-left-torn"
        ),
        pytest.param(
            "print('.' * 60, '85.0% [81.6%,\\n87.9%]')", "80", r"81.6%, 87.9%", id="interval-torn"
        ),
        pytest.param(
            "print('│ strict │ 85.0% [81.6%, │\\n│        │ 87.9%]        │')",
            "80",
            r"81\.6%",
            id="interval-torn-in-a-cell",
        ),
        pytest.param("print('\\x1b[1mbold')", "dumb", "escape code", id="bold-on-a-dumb-terminal"),
        pytest.param("print('\\x1b[2K', end='')", "pipe", "escape code", id="escape-in-a-pipe"),
        pytest.param("print('1%\\r2%')", "dumb", "overwritten", id="carriage-return-when-dumb"),
        pytest.param("print('1%\\r2%')", "pipe", "overwritten", id="carriage-return-in-a-pipe"),
        pytest.param("print('\\x1b[1;31mred')", "no-color", "a colour", id="colour-after-bold"),
        pytest.param("print('\\x1b[38;5;9mred')", "no-color", "a colour", id="one-of-256-colours"),
    ],
)
def test_a_broken_rule_is_found(program: str, on: str, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        check(python(program, SCREENS[on]))


@pytest.mark.parametrize(
    ("program", "on"),
    [
        pytest.param("print('x' * 80)", "80", id="as-wide-as-the-screen"),
        pytest.param("print('步' * 40)", "80", id="wide-characters"),
        pytest.param("print('/x' * 50)", "80", id="a-word-longer-than-a-line"),
        pytest.param("print('x' * 500)", "pipe", id="a-pipe-has-no-width"),
        pytest.param("print('\\x1b[1mbold')", "no-color", id="bold-is-no-colour"),
        pytest.param("print('5 steps\\n6 steps\\n7')", "80", id="figures-below-one-another"),
        pytest.param("print('rows 64\\ntokens 30')", "80", id="short-lines-are-not-wrapped"),
        pytest.param(
            "print('a' * 50, '       before   +0.0\\ntokens', ' ' * 42, '        after   +0.0')",
            "80",
            id="rows-of-a-table",
        ),
        pytest.param(BAR, "80", id="bar"),
        pytest.param(BAR, "no-color", id="bar-without-colour"),
    ],
)
def test_what_keeps_the_rules_passes(program: str, on: str) -> None:
    check(python(program, SCREENS[on]))


def test_a_bar_that_has_gone_was_seen() -> None:
    shown = replay(python(BAR, SCREENS["80"]))
    assert shown.lines == ("a line above the bar",) * 3
    assert [line.split("  ")[-1] for line in shown.seen if "warm start" in line] == [
        f"left 0:00:0{step}" for step in range(3)
    ]


@pytest.mark.parametrize("on", ["80", "pipe"])
def test_ctrl_c_reaches_the_command(on: str) -> None:
    with started([sys.executable, "-c", INTERRUPTED], SCREENS[on]) as running:
        running.until("ready")
        running.press_ctrl_c()
        check(running.end(), code=130)


def test_a_long_silence_breaks_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = python(BUSY, SCREENS["pipe"])
    check(recording)
    monkeypatch.setattr(shown, "SILENCE_S", 0.3)
    with pytest.raises(AssertionError, match="of silence at 'begun'"):
        check(recording)


def test_a_silence_counts_in_the_commands_own_time() -> None:
    """Work is a silence, sleep is none: how long a busy machine lets it wait has no say."""
    seconds, line = longest_silence(python(BUSY, SCREENS["80"]))
    assert line == "begun"
    assert 0.3 < seconds < 3.0
