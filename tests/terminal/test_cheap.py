"""The commands that take a second or two, on every screen."""

from pathlib import Path

import pytest

from .screen import SCREENS, Screen, on_every_screen, record, script, train
from .shown import check

pytestmark = pytest.mark.terminal

ROWS = "packages/rewards/tests/fixtures/gsm8k.jsonl"
SCRIPTS = (
    *("xmlgrpo-train", "xmlgrpo-ask", "xmlgrpo-plan", "xmlgrpo-doctor", "xmlgrpo-report"),
    *("xmlgrpo-eval", "xmlgrpo-export", "xmlgrpo-validate"),
    *("xmlgrpo-watch", "xmlgrpo-compare", "xmlgrpo-rescore"),
)


@pytest.mark.parametrize("on", ["80", "dumb"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name: str, on: str) -> None:
    assert "usage: " + name in check(record([script(name), "--help"], SCREENS[on])).text


@on_every_screen
def test_help_of_make(screen: Screen) -> None:
    shown = check(record(["make", "help"], screen))
    assert "train CONFIG into outputs/RUN" in shown.text


@on_every_screen
def test_validate(screen: Screen) -> None:
    shown = check(record([script("xmlgrpo-validate"), "gsm8k", ROWS], screen))
    assert "known hacks" in shown.text


@on_every_screen
def test_doctor(screen: Screen) -> None:
    shown = check(record([script("xmlgrpo-doctor")], screen, loaded=screen != SCREENS["80"]))
    assert "machine" in shown.lines


@on_every_screen
def test_plan(screen: Screen) -> None:
    words = [script("xmlgrpo-plan"), "--config", "configs/tiny.yaml"]
    shown = check(record(words, screen, loaded=screen != SCREENS["80"]))
    assert "memory" in shown.text


@on_every_screen
def test_report(house: Path, screen: Screen) -> None:
    check(record([script("xmlgrpo-report"), "--run", "sums"], screen, cwd=house))
    assert (house / "outputs/sums/report.html").stat().st_size > 10_000


@on_every_screen
def test_watch(house: Path, screen: Screen) -> None:
    shown = check(record([script("xmlgrpo-watch"), "--run", "sums"], screen, cwd=house))
    assert "finished" in shown.text
    assert "held out" in shown.text


@on_every_screen
def test_rescore(house: Path, screen: Screen) -> None:
    shown = check(record([script("xmlgrpo-rescore"), "--run", "sums"], screen, cwd=house))
    assert "would be paid" in shown.text


@on_every_screen
def test_a_finished_run_shows_its_result(house: Path, screen: Screen) -> None:
    words = train("sums", max_steps=4)
    shown = check(record(words, screen, cwd=house, loaded=screen != SCREENS["80"]))
    assert "is finished" in shown.text
    assert "lenient accuracy" in shown.text
