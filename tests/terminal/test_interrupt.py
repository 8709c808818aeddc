"""Ctrl-C in the first second, while libraries are loaded: one line, and nothing left behind."""

from pathlib import Path

import pytest

from .screen import SCREENS, script, started, train
from .shown import interrupted

pytestmark = pytest.mark.terminal


def files_of(folder: Path) -> list[Path]:
    """All but the empty files that tell whether another process is at work."""
    return sorted(path for path in folder.rglob("*") if not path.name.endswith(".lock"))


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(train("fresh", max_steps=4), id="train"),
        pytest.param([script("xmlgrpo-ask"), "--run", "sums", "--question", "2 + 2?"], id="ask"),
        pytest.param([script("xmlgrpo-eval"), "run", "--run", "sums"], id="eval"),
        pytest.param([script("xmlgrpo-eval"), "ladder", "--run", "sums"], id="ladder"),
        pytest.param([script("xmlgrpo-export"), "merge", "--run", "outputs/sums"], id="merge"),
    ],
)
def test_ctrl_c_while_libraries_are_loaded(house: Path, words: list[str]) -> None:
    before = files_of(house)
    with started(words, SCREENS["80"], cwd=house) as running:
        running.work(0.8)  # Python has started, and no command is done
        running.press_ctrl_c()
        interrupted(running.end())
    assert files_of(house) == before
