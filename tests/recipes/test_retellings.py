"""GSM8K's rows with other numbers, of recipes/gsm8k."""

import json
import random
import re
from fractions import Fraction
from pathlib import Path

import pytest

from recipes.gsm8k.data import renumber
from xmlgrpo_rewards.task import get_task
from xmlgrpo_run.measures.sums import calculate

CLIPS = {
    "question": "Ann sold 48 clips in April, and half as many in May. How many in all?",
    "answer": "In May 48/2 = <<48/2=24>>24.\nIn all 48+24 = <<48+24=72>>72 clips.\n#### 72",
}


def dice(seed: int = 0) -> random.Random:
    return random.Random(seed)  # noqa: S311 - no secret depends on it


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("2+3*4", 14, id="product-first"),
        pytest.param("(2+3)*4", 20, id="parentheses"),
        pytest.param("10-4-3", 3, id="from-the-left"),
        pytest.param("12/4/3", 1, id="division-from-the-left"),
        pytest.param("0.2*50", 10, id="decimals"),
        pytest.param(".5 * 8", 4, id="bare-point"),
    ],
)
def test_sums_are_calculated(expression: str, value: int) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize("expression", ["", "2+", "x+1", "(2+3", "2 3", "5%", "2**3"])
def test_what_is_no_sum_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        calculate(expression)


def test_a_retold_row_is_worked_out_again() -> None:
    story = renumber.read_story(CLIPS)
    assert story is not None
    assert list(map(int, story.free)) == [48]
    told = [row for seed in range(20) if (row := renumber.retell(story, dice(seed)))]
    assert len(told) == 20
    assert len({row["question"] for row in told}) > 5
    for row in told:
        sold = re.search(r"sold (\d+) clips", row["question"])
        assert sold is not None
        new = int(sold[1])
        half, both = new // 2, new + new // 2
        assert new % 2 == 0
        assert row["answer"] == (
            f"In May {new}/2 = <<{new}/2={half}>>{half}.\n"
            f"In all {new}+{half} = <<{new}+{half}={both}>>{both} clips.\n#### {both}"
        )


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("It is 72.\n#### 72", id="no-notes"),
        pytest.param("48/2 = <<48/2=25>>25\n#### 25", id="wrong-note"),
        pytest.param("48/2 = <<48/2=24>>24\n#### 72", id="another-end"),
        pytest.param("48% = <<48%=24>>24\n#### 24", id="no-sum"),
        pytest.param("48/0 = <<48/0=24>>24\n#### 24", id="by-zero"),
    ],
)
def test_a_row_that_does_not_calculate_is_not_retold(answer: str) -> None:
    assert renumber.read_story({**CLIPS, "answer": answer}) is None


def test_numbers_that_words_may_stand_for_stay() -> None:
    question = "For 7 days three cats eat 3 fish and 15 mice, 20% of 1/5 of 365.5 of 9. 48 clips."
    story = renumber.read_story({**CLIPS, "question": question})
    assert story is not None
    assert list(map(int, story.free)) == [9, 15, 48]


def test_real_rows_stay_right_when_retold(gsm8k_dir: Path) -> None:
    lines = (gsm8k_dir / "train.jsonl").read_text(encoding="utf-8").splitlines()[:400]
    stories = [renumber.read_story(json.loads(line)) for line in lines]
    told = [renumber.retell(story, dice()) for story in stories if story]
    found = [row for row in told if row]
    assert len(found) > 200
    for row in found:
        gold = get_task("gsm8k").example(row, "row").gold
        for expression, value in re.findall(r"<<([^=]*)=([^>]*)>>", row["answer"]):
            exact = calculate(expression)
            assert abs(exact - Fraction(value.replace(",", ""))) < Fraction(1, 1000), row
        assert Fraction(gold) > 0
