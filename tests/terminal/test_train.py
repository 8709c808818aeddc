"""`make train` at a terminal: the base still to be built, stopped in every stage, continued."""

import re
import shutil
from pathlib import Path

import pytest

from .screen import ROOT, SCREENS, record, started, train
from .shown import bar_of, check, interrupted, replay

pytestmark = pytest.mark.terminal

STEPS, WARM_STEPS = 10, 120
BASE = r"[1-9]\d*/120 steps"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A working folder in which nothing was trained yet."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    return tmp_path


def steps_of(lines: tuple[str, ...]) -> list[int]:
    found = [re.match(r"step +(\d+)/", line) for line in lines]
    return [int(step.group(1)) for step in found if step]


def counts_of(seen: tuple[str, ...]) -> list[int]:
    """How far the warm start was in each of its lines."""
    found = [re.match(r"warm start .*?(\d+)/(?:40|120) steps", line) for line in seen]
    return [int(count.group(1)) for count in found if count]


def test_a_run_is_stopped_in_every_stage_and_goes_on(checkout: Path) -> None:
    words = train("sums", max_steps=STEPS, warm_steps=WARM_STEPS)

    with started(words, SCREENS["80"], cwd=checkout) as running:
        running.until(BASE)
        running.press_ctrl_c()
        first = running.end()
    assert "step" in interrupted(first)
    assert not (checkout / "outputs/sums").exists(), "an empty run folder is left behind"

    with started(words, SCREENS["100"], cwd=checkout, loaded=True) as running:
        running.until(r"step +[2-9]/")
        running.press_ctrl_c()
        second = check(running.end(), code=130)
    built, went_on = counts_of(replay(first).seen), counts_of(second.seen)
    assert min(filter(None, went_on)) >= max(built), "the warm start began anew"
    bar_of(second, "warm start")
    bar_of(second, "training")
    [saved] = re.findall(r"saved at step (\d+) of 10\. Run the same command again", second.text)

    with started(words, SCREENS["120"], cwd=checkout, loaded=True) as running:
        third = check(running.end())
    assert steps_of(third.lines) == list(range(int(saved) + 1, STEPS + 1))
    assert "lenient accuracy" in third.text
    assert (checkout / "outputs/sums/manifest.json").is_file()


@pytest.mark.parametrize("on", ["dumb", "no-color"])
def test_a_run_from_its_base_to_its_end(checkout: Path, on: str) -> None:
    words = train("sums", max_steps=4, warm_steps=40)
    shown = check(record(words, SCREENS[on], cwd=checkout, loaded=True))
    assert steps_of(shown.lines) == [1, 2, 3, 4]
    assert counts_of(shown.seen), "not a word of the warm start"
