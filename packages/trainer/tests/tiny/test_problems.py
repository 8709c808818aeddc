"""Generated problems: right answers, disjoint splits, the same ones for the same seed."""

import math
import re

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import get_task
from xmlgrpo_trainer.tiny.build import ensure_tiny_model
from xmlgrpo_trainer.tiny.examples import target
from xmlgrpo_trainer.tiny.problems import generate, problem_splits, warm_problems
from xmlgrpo_trainer.tiny.settings import SMALLEST_OPERAND, SMALLEST_VOCABULARY, TinySettings

PINNED = {
    "question": "Ruby drives for $4 an hour and works 4 hours. She spends $5. Then Emma gives Ruby "
    "$10. How much money does Ruby have now?",
    "answer": "Ruby earns 4*4 = $<<4*4=16>>16.\nShe has left 16-5 = $<<16-5=11>>11.\n"
    "Then she has 11+10 = $<<11+10=21>>21.\n#### 21",
}
SMALL = TinySettings(warm_steps=20, warm_batch=8)
NOTE = re.compile(r"(\d+)([-+*/])(\d+) = \$?<<(\d+)([-+*/])(\d+)=(\d+)>>(\d+)")


def calculate(left: int, sign: str, right: int) -> int:
    if sign == "/":
        assert left % right == 0
        return left // right
    return {"+": left + right, "-": left - right, "*": left * right}[sign]


def test_every_line_is_a_right_calculation_and_the_last_is_the_answer():
    rows = generate(5000, seed=1)
    for row in rows:
        *lines, last = row["answer"].split("\n")
        assert 1 <= len(lines) <= 3
        for line in lines:
            found = NOTE.search(line)
            assert found, line
            left, sign, right, *note, shown = found.groups()
            assert [left, sign, right] == note[:3]
            assert calculate(int(left), sign, int(right)) == int(note[3]) == int(shown)
        assert last == f"#### {shown}"
        assert int(shown) >= 0


def test_the_operands_of_the_first_line_stand_in_the_question():
    for row in generate(500, seed=2):
        first = NOTE.search(row["answer"])
        assert first, row
        left, _, right = first.groups()[:3]
        assert {left, right} <= set(re.findall(r"\d+", row["question"])), row


def test_every_row_is_one_of_the_gsm8k_task():
    task = get_task("gsm8k")
    for number, row in enumerate(generate(200, seed=3)):
        example = task.example(row, f"row {number}")
        assert example.gold == row["answer"].rsplit("#### ", 1)[1]
        assert "<<" in row["answer"]


def test_one_two_and_three_steps_are_equally_common():
    rows = generate(3000, seed=4)
    for steps in (1, 2, 3):
        share = sum(row["answer"].count("<<") == steps for row in rows) / len(rows)
        assert 0.29 < share < 0.37


def test_the_same_seed_gives_the_same_problems_and_another_seed_others():
    assert generate(50, seed=5) == generate(50, seed=5)
    assert generate(80, seed=5)[:50] == generate(50, seed=5)
    shared = {r["question"] for r in generate(50, seed=5)} & {
        r["question"] for r in generate(50, seed=6)
    }
    assert len(shared) < 5


def test_these_problems_are_the_same_on_every_machine():
    """Pinned: were Python's generator to change, cached results would no longer be comparable."""
    row = generate(1, seed="pinned")[0]
    assert row == PINNED


def test_excluded_questions_do_not_occur():
    first = generate(300, seed=7)
    excluded = {row["question"] for row in first[:100]}
    assert not excluded & {row["question"] for row in generate(300, seed=7, exclude=excluded)}


def test_splits_share_no_question():
    warm, train, holdout = (
        {row["question"] for row in part} for part in problem_splits(SMALL, 0, 120, 150)
    )
    assert (len(warm), len(train), len(holdout)) == (160, 150, 120)
    assert not warm & train
    assert not warm & holdout
    assert not train & holdout


def test_the_warm_start_does_not_depend_on_the_other_sizes():
    assert problem_splits(SMALL, 0, 10, 10).warm == problem_splits(SMALL, 0, 50, 99).warm
    assert problem_splits(SMALL, 0, 10, 10).warm == warm_problems(SMALL, 0)


def test_splits_differ_by_seed():
    assert problem_splits(SMALL, 0, 10, 10).holdout != problem_splits(SMALL, 1, 10, 10).holdout


ANSWER = "Tom has 3*4 = <<3*4=12>>12 pens.\nHe pays 12-2 = $<<12-2=10>>10.\n#### 10"


@pytest.mark.parametrize(
    ("worked", "tagged", "expected"),
    [
        pytest.param(
            True,
            True,
            "<reasoning>\nTom has 3*4 = 12 pens.\nHe pays 12-2 = $10.\n</reasoning>\n"
            "<answer>\n10\n</answer>",
            id="worked-in-the-tags",
        ),
        pytest.param(
            True, False, "Tom has 3*4 = 12 pens.\nHe pays 12-2 = $10.\n#### 10", id="worked-plain"
        ),
        pytest.param(
            False,
            True,
            "<reasoning>\nI think it is 10.\n</reasoning>\n<answer>\n10\n</answer>",
            id="guessed-in-the-tags",
        ),
        pytest.param(False, False, "#### 10", id="guessed-plain"),
    ],
)
def test_four_kinds_of_answer(worked, tagged, expected):
    assert target(ANSWER, worked=worked, tagged=tagged) == expected


@pytest.mark.parametrize("worked", [True, False])
@pytest.mark.parametrize("tagged", [True, False])
def test_every_kind_of_answer_is_right_and_only_tagged_ones_are_strict(worked, tagged):
    task = get_task("gsm8k")
    for row in generate(100, seed=8):
        grade = task.grade(
            target(row["answer"], worked=worked, tagged=tagged), task.example(row, "x")
        )
        assert grade.lenient_correct
        assert grade.strict_correct is tagged


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param({"warm_steps": 0}, "warm_steps: expected a finite number above 0", id="steps"),
        pytest.param({"muon_lr": math.inf}, "tiny.muon_lr: expected a finite number", id="rate"),
        pytest.param({"vocab_size": 383}, "tiny.vocab_size: expected 384", id="vocabulary"),
        pytest.param({"largest_operand": 2}, "largest_operand: expected 3 or more", id="operand"),
        pytest.param({"head_dim": 31}, "tiny.head_dim: expected an even number", id="odd-head"),
        pytest.param({"warm_threads": 17}, "expected at most warm_batch=16", id="threads"),
        pytest.param({"worked_habit": 1.5}, "tiny.worked_habit: expected a share", id="share"),
        pytest.param({"heads": 3}, "tiny.heads: expected a multiple of kv_heads=2", id="heads"),
    ],
)
def test_settings_out_of_range_are_refused(settings, says):
    with pytest.raises(UserError, match=says):
        TinySettings(**settings)


def test_the_smallest_settings_that_are_not_refused_work(tmp_path):
    smallest = TinySettings(
        hidden_size=4,
        layers=1,
        heads=1,
        kv_heads=1,
        head_dim=2,
        mlp_size=4,
        vocab_size=SMALLEST_VOCABULARY,
        largest_operand=SMALLEST_OPERAND,
        warm_steps=1,
        warm_batch=1,
        warm_threads=1,
    )
    made = ensure_tiny_model(tmp_path, smallest, seed=0)
    assert (made / "model.safetensors").is_file()
