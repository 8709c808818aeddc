"""`make eval` and `make ladder` at a terminal: stopped among the items, continued."""

import re
from pathlib import Path

import pytest

from screen import SCREENS, record, script, started
from shown import bar_of, check, interrupted

pytestmark = pytest.mark.terminal

EVAL = [script("xmlgrpo-eval"), "run", "--run", "sums", "--batch-size", "2"]
LADDER = [script("xmlgrpo-eval"), "ladder", "--run", "sums", "--limit", "12"]


def test_an_evaluation_is_stopped_and_goes_on(house: Path) -> None:
    with started(EVAL, SCREENS["80"], cwd=house) as running:
        running.until(r"\[003/024\]")
        running.press_ctrl_c()
        stopped = running.end()
    kept = re.search(r"(\d+) (?:replies|items)", interrupted(stopped))
    assert kept, "how many are kept is not said"
    assert int(kept.group(1)) >= 2

    shown = check(record(EVAL, SCREENS["100"], cwd=house))
    bar_of(shown, "asking")
    assert "Final accuracy" in shown.text
    assert "difference" in shown.text


@pytest.mark.parametrize("on", ["dumb", "no-color"])
def test_an_evaluation(house: Path, on: str) -> None:
    shown = check(record([*EVAL, "--limit", "4", "--what", "base"], SCREENS[on], cwd=house))
    assert len([line for line in shown.lines if line.startswith("[00")]) == 4


def test_a_ladder_is_stopped_and_goes_on(house: Path) -> None:
    with started([*LADDER, "--batch-size", "2"], SCREENS["80"], cwd=house) as running:
        running.until(r"/12 ")
        running.press_ctrl_c()
        stopped = running.end()
    interrupted(stopped)
    for on in ("80", "120"):  # the second time every reply is there
        shown = check(record([*LADDER, "--batch-size", "2"], SCREENS[on], cwd=house))
        assert "tuned" in shown.text
