"""Ctrl-C in the first second, while libraries are loaded: one line, and nothing left behind."""

import time
from pathlib import Path

import pytest

from .screen import SCREENS, script, started, train
from .shown import interrupted

pytestmark = pytest.mark.terminal


def contents_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


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
    before = contents_of(house)
    with started(words, SCREENS["80"], cwd=house) as running:
        running.until_it_loads("libtorch_cpu")
        running.press_ctrl_c()
        interrupted(running.end())
    assert contents_of(house).items() >= before.items()


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.05, 0.1])
def test_ctrl_c_while_the_ladder_starts_a_model_s_process(house: Path, after_s: float) -> None:
    ladder = [script("xmlgrpo-eval"), "ladder", "--run", "sums", "--limit", "4"]
    with started(ladder, SCREENS["80"], cwd=house) as running:
        running.until_it_starts("spawn_main")
        time.sleep(after_s)  # Python starts, and reads our modules: whichever it is then at
        running.press_ctrl_c()
        interrupted(running.end())
