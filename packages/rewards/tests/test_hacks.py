import pytest

from xmlgrpo_rewards import Example, Task, load_rewards, total
from xmlgrpo_rewards.hacks import FULL_MARKS, HACKS, RIGHT, number_hacks
from xmlgrpo_rewards.task import Hack
from xmlgrpo_rewards.total import CLASSIC

REWARDS = load_rewards(dict.fromkeys(CLASSIC, 1.0))
BY_POSITION = [pytest.param(n, id=hack.name) for n, hack in enumerate(HACKS)]
SLACK = 0.25  # how far below its bound a hack may stay before the bound says too little


@pytest.mark.parametrize("position", BY_POSITION)
@pytest.mark.parametrize("gold", ["18", "-5", "0", "119", "1234567", "2.5"])
def test_a_hack_earns_no_more_than_it_may(position: int, gold: str, task: Task) -> None:
    hack = list(number_hacks(gold))[position]
    [came] = total(REWARDS, [hack.reply], answer=[gold])
    assert came.value <= hack.earns + 1e-9, came
    assert not task.grade(hack.reply, Example("x:1", "?", gold, "")).strict_correct


@pytest.mark.parametrize("hack", [pytest.param(h, id=h.name) for h in number_hacks("18")])
def test_the_bound_of_a_hack_is_not_idle(hack: Hack) -> None:
    [came] = total(REWARDS, [hack.reply], answer=["18"])
    assert came.value >= hack.earns - SLACK, came


def test_what_the_hacks_are_made_from_earns_full_marks() -> None:
    [came] = total(REWARDS, [RIGHT.replace("GOLD", "18")], answer=["18"])
    assert came.value == FULL_MARKS
    assert all(hack.earns < FULL_MARKS for hack in HACKS)


def test_names_and_texts_are_different() -> None:
    assert len({hack.name for hack in HACKS}) == len({hack.reply for hack in HACKS}) == len(HACKS)


def test_a_gold_that_is_no_number_has_no_hacks_of_numbers() -> None:
    assert list(number_hacks("cat")) == []
