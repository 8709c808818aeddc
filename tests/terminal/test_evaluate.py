"""`make eval` and `make ladder` at a terminal: stopped among the items, continued."""

import re
from pathlib import Path

import pytest

from .screen import SCREENS, record, script, started
from .shown import bar_of, check, interrupted, replay

pytestmark = pytest.mark.terminal

EVAL = [script("xmlgrpo-eval"), "run", "--run", "sums", "--batch-size", "1"]
# one at a time: Ctrl-C that comes seconds late must still find some of the base's to be asked
LADDER = [script("xmlgrpo-eval"), "ladder", "--run", "sums", "--batch-size", "1"]


def test_an_evaluation_is_stopped_and_goes_on(house: Path) -> None:
    with started(EVAL, SCREENS["80"], cwd=house) as running:
        running.until(r"\[008/024\]")
        running.press_ctrl_c()
        stopped = running.end()
    kept = re.search(r"(\d+) replies of base are kept", interrupted(stopped))
    assert kept, "how many are kept is not said"
    bar_of(replay(stopped), "base")

    shown = check(record(EVAL, SCREENS["100"], cwd=house, loaded=True))
    assert f"{kept.group(1)} replies of an earlier start are kept" in shown.text
    assert shown.text.count("Final accuracy") == 2
    assert "difference, 95% interval" in shown.text


@pytest.mark.parametrize("on", ["120", "dumb", "no-color", "pipe"])
def test_an_evaluation(house: Path, on: str) -> None:
    words = [*EVAL, "--limit", "4", "--what", "base"]
    shown = check(record(words, SCREENS[on], cwd=house, loaded=True))
    assert len([line for line in shown.lines if line.startswith("[00")]) == 4


def test_a_ladder_is_stopped_and_goes_on(house: Path) -> None:
    with started(LADDER, SCREENS["80"], cwd=house) as running:
        running.until(r"[1-9]\d*/24 items")
        running.press_ctrl_c()
        stopped = running.end()
    assert "replies of base are kept" in interrupted(stopped)
    shown = check(record(LADDER, SCREENS["80"], cwd=house))
    assert "replies of an earlier start are kept" in shown.text
    for on in ("100", "120", "dumb", "no-color", "pipe"):  # every reply is there: the table alone
        shown = check(record(LADDER, SCREENS[on], cwd=house, loaded=True))
        assert "accuracy, 95%" in shown.text
