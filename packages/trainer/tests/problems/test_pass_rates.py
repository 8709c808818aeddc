"""Problems are drawn by how often they are solved."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.run_config import SamplingConfig
from xmlgrpo_trainer.problems.pass_rates import Draws, PassRate, read_pass_rates

BAND = SamplingConfig(band=[0.1, 0.8], explore=0.25)


def draws(*rates: tuple[int, int], settings: SamplingConfig = BAND, seed: int = 0) -> Draws:
    """Of problems that were right so often of so many, each by itself."""
    known = [PassRate(right, asked, f"p{number}") for number, (right, asked) in enumerate(rates)]
    return Draws(known, settings, seed)


def drawn(source: Draws, count: int, times: int) -> Counter[int]:
    return Counter(problem for _ in range(times) for problem in source.take(count))


@pytest.mark.parametrize(
    ("right", "asked", "is_inside"),
    [
        pytest.param(0, 0, True, id="not-asked-yet"),
        pytest.param(0, 16, False, id="never-right"),
        pytest.param(1, 16, False, id="too-rarely"),
        pytest.param(2, 16, True, id="now-and-then"),
        pytest.param(8, 10, True, id="the-band-has-its-ends"),
        pytest.param(15, 16, False, id="nearly-always"),
    ],
)
def test_what_is_in_the_band(right: int, asked: int, *, is_inside: bool) -> None:
    assert draws((right, asked)).is_inside("p0") == is_inside


def test_a_fixed_share_is_drawn_from_outside() -> None:
    found = drawn(draws(*[(8, 16)] * 6, *[(0, 16)] * 30), count=8, times=15)
    assert sum(found[problem] for problem in range(6)) == 6 * 15
    assert {found[problem] for problem in range(6)} == {15}, "in turns"
    assert {found[problem] for problem in range(6, 36)} == {1}, "in turns"


@pytest.mark.parametrize(
    "rates",
    [
        pytest.param([(0, 16)] * 3, id="nothing-in-the-band"),
        pytest.param([(8, 16)] * 3, id="nothing-outside"),
        pytest.param([(8, 16)], id="one-problem"),
    ],
)
def test_a_batch_is_always_full(rates: Sequence[tuple[int, int]]) -> None:
    assert len(draws(*rates).take(8)) == 8


def test_the_newest_replies_count_most() -> None:
    source = draws((0, 16), (8, 16))
    source.note(0, 16, 16)
    assert source.is_inside("p0"), "16 of 24, since half of what was is kept"
    for _ in range(5):
        source.note(1, 16, 16)
    assert not source.is_inside("p1")
    assert source.families_inside() == 1


@pytest.mark.parametrize(
    ("first", "replies", "is_inside_after"),
    [
        pytest.param((2, 16), 0, {0: False, 10: False, 11: True}, id="missed"),
        pytest.param((1, 16), 0, {0: False, 200: False}, id="never-was-inside"),
        pytest.param((8, 16), 16, {0: True, 200: True}, id="better-than-at-first"),
        pytest.param((12, 16), 16, {0: False, 200: False}, id="mastered"),
    ],
)
def test_what_was_missed_is_forgotten(
    first: tuple[int, int], replies: int, is_inside_after: dict[int, bool]
) -> None:
    """2 of 16, then missed 16 times, is 1 of 24, and 0.1 again once two ninths of that count."""
    forgetful = SamplingConfig(band=[0.1, 0.9], half_life=5)
    source = draws(first, (8, 16), settings=forgetful)
    source.note(0, replies, 16)
    for drawn_since in range(201):
        if drawn_since in is_inside_after:
            assert source.is_inside("p0") == is_inside_after[drawn_since], drawn_since
        source.take(1)


def test_without_a_half_life_nothing_is_forgotten() -> None:
    source = draws((2, 16), (8, 16))
    source.note(0, 0, 16)
    drawn(source, count=1, times=200)
    assert not source.is_inside("p0")


def test_a_familys_problems_take_turns_and_share_their_rate() -> None:
    told = [PassRate(0, 0, "story") for _ in range(4)]
    source = Draws([*told, PassRate(4, 8, "other")], SamplingConfig(band=[0.1, 0.9], explore=0), 3)
    found = drawn(source, count=2, times=8)
    assert found == {0: 2, 1: 2, 2: 2, 3: 2, 4: 8}
    source.note(2, 0, 16)
    assert drawn(source, count=1, times=4) == {4: 4}


def test_the_same_draws_come_again_from_a_saved_state() -> None:
    rates = [(number % 17, 16) for number in range(50)]
    forgetful = SamplingConfig(band=[0.1, 0.8], explore=0.25, half_life=2)
    whole, cut = draws(*rates, settings=forgetful), draws(*rates, settings=forgetful)
    for source in (whole, cut):
        for problem in source.take(24):
            source.note(problem, 3, 16)
    saved = json.loads(json.dumps(cut.state()))
    other = draws(*rates, settings=forgetful)
    other.restore(saved)
    for _ in range(5):
        problems = whole.take(24)
        assert problems == other.take(24)
        for problem in problems:
            whole.note(problem, 1, 16)
            other.note(problem, 1, 16)
    assert draws(*rates).take(24) != draws(*rates, seed=1).take(24)


class TestFile:
    def read(self, tmp_path: Path, *rows: dict[str, Any]) -> dict[str, PassRate]:
        path = tmp_path / "rates.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_pass_rates(path)

    def test_rates_are_by_question(self, tmp_path: Path) -> None:
        found = self.read(
            tmp_path,
            {"question": "1+1?", "right": 3, "asked": 8, "answer": "more"},
            {"question": "1+2?", "right": 0, "asked": 0, "family": 7},
            {"question": "1+3?", "right": 1, "asked": 8, "family": 7},
        )
        assert found["1+1?"] == PassRate(3, 8, "1+1?")
        assert found["1+2?"].family == found["1+3?"].family

    def test_bad_rows_are_named_together(self, tmp_path: Path) -> None:
        good, bad = {"question": "?", "right": 1, "asked": 8}, {"question": "?", "right": True}
        with pytest.raises(UserError, match=r":2: expected question.*; 1 other.*: rates.jsonl:3"):
            self.read(tmp_path, good, bad, {**good, "right": 9})

    @pytest.mark.parametrize(
        ("row", "told"),
        [
            pytest.param({"question": "?", "right": 1}, "expected question, right", id="no-count"),
            pytest.param({"question": "?", "right": 9, "asked": 8}, "got 9 and 8", id="too-many"),
            pytest.param({"question": "?", "right": True, "asked": 8}, "expected", id="no-number"),
            # no float holds it
            pytest.param(
                {"question": "?", "right": 0, "asked": 10**400}, "got 0 and 1000", id="far"
            ),
        ],
    )
    def test_a_row_that_is_no_rate(self, tmp_path: Path, row: Any, told: str) -> None:
        with pytest.raises(UserError, match=rf"rates.jsonl:1: .*{told}"):
            self.read(tmp_path, row)
