"""`make ask`: a reply, word by word."""

from pathlib import Path

import pytest

from screen import SCREENS, record, script
from shown import check

pytestmark = pytest.mark.terminal

QUESTION = "Tom has 3 apples and buys 4 more apples. How many apples has Tom?"


@pytest.mark.parametrize("on", ["80", "dumb", "pipe"])
def test_ask(trained: Path, on: str) -> None:
    words = [script("xmlgrpo-ask"), "--run", "sums", "--question", QUESTION]
    shown = check(record([*words, "--max-new-tokens", "200"], SCREENS[on], cwd=trained))
    assert shown.lines
