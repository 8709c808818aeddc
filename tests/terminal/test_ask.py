"""`make ask`: a reply, word by word."""

from pathlib import Path

import pytest

from .screen import SCREENS, Screen, on_every_screen, record, script, started
from .shown import check, interrupted

pytestmark = pytest.mark.terminal

QUESTION = "Tom has 3 apples and buys 4 more apples. How many apples has Tom?"


@on_every_screen
def test_ask(trained: Path, screen: Screen) -> None:
    words = [script("xmlgrpo-ask"), "--run", "sums", "--question", QUESTION]
    words += ["--max-new-tokens", "200"]
    shown = check(record(words, screen, cwd=trained, loaded=screen != SCREENS["80"]))
    assert shown.lines


def test_questions_are_typed_one_after_the_other(trained: Path) -> None:
    words = [script("xmlgrpo-ask"), "--run", "sums", "--max-new-tokens", "200"]
    with started(words, SCREENS["80"], cwd=trained) as running:
        for question in (QUESTION, "2<bos>?", "How many is 2 + 2?"):
            running.until("question> ")
            running.type_line(question)
        running.until("question> ")
        running.type_line("")
        shown = check(running.end())
    assert "error: the prompt for '2<bos>?' holds 2 <bos> tokens" in shown.text
    assert shown.text.count("question>") == 4


def test_ctrl_c_where_a_question_is_asked_for(trained: Path) -> None:
    with started([script("xmlgrpo-ask"), "--run", "sums"], SCREENS["80"], cwd=trained) as running:
        running.until("question> ")
        running.press_ctrl_c()
        interrupted(running.end())
