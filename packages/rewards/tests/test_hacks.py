import pytest

from xmlgrpo_rewards import Task, load_rewards, total
from xmlgrpo_rewards.hacks import FULL_MARKS, HACKS, RIGHT, Hack
from xmlgrpo_rewards.total import CLASSIC

REWARDS = load_rewards(dict.fromkeys(CLASSIC, 1.0))
BY_NAME = [pytest.param(hack, id=hack.name) for hack in HACKS]
SLACK = 0.25  # how far below its bound a hack may stay before the bound says too little


@pytest.mark.parametrize("hack", BY_NAME)
@pytest.mark.parametrize("gold", ["18", "-5", "0", "119", "1234567", "2.5"])
def test_a_hack_earns_no_more_than_it_may(hack: Hack, gold: str, task: Task) -> None:
    text = hack.reply_to(gold)
    [came] = total(REWARDS, [text], answer=[gold])
    assert came.value <= hack.highest + 1e-9, came
    assert not task.grade(text, gold).strict_correct


@pytest.mark.parametrize("hack", BY_NAME)
def test_the_bound_of_a_hack_is_not_idle(hack: Hack) -> None:
    [came] = total(REWARDS, [hack.reply_to("18")], answer=["18"])
    assert came.value >= hack.highest - SLACK, came


def test_what_the_hacks_are_made_from_earns_full_marks() -> None:
    [came] = total(REWARDS, [RIGHT.replace("GOLD", "18")], answer=["18"])
    assert came.value == FULL_MARKS
    assert all(hack.highest < FULL_MARKS for hack in HACKS)


def test_names_and_texts_are_different() -> None:
    assert len({hack.name for hack in HACKS}) == len({hack.text for hack in HACKS}) == len(HACKS)


def test_a_gold_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a number as gold, got 'cat'"):
        HACKS[0].reply_to("cat")
