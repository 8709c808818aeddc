from dataclasses import replace
from pathlib import Path

import pytest

from xmlgrpo_rewards import BadRow, Example, Task, messages, parse, parse_number, render
from xmlgrpo_rewards.hacks import hostile_texts
from xmlgrpo_rewards.rows import text_rows

QUESTION = "How many?"
ASKED = Example("x:1", QUESTION, "1", "")
GOOD = render("16 - 3 = 13", "1,300")

BAD_ROWS = [
    pytest.param({}, "a field 'question', got []", id="empty-row"),
    pytest.param({"answer": "#### 1"}, "a field 'question', got ['answer']", id="no-question"),
    pytest.param({"question": "q"}, "a field 'answer', got ['question']", id="no-answer"),
    pytest.param({"question": 3, "answer": "#### 1"}, "a text in 'question', got 3", id="int"),
    pytest.param({"question": None, "answer": "#### 1"}, "'question', got None", id="null"),
    pytest.param({"question": " ", "answer": "#### 1"}, "'question', got ' '", id="blank"),
    pytest.param({"question": "q", "answer": ["#### 1"]}, "a text in 'answer'", id="list"),
    pytest.param({"question": "q", "answer": ""}, "a text in 'answer', got ''", id="empty"),
    pytest.param({"question": "q", "answer": "13"}, "ends in `#### <number>`", id="no-mark"),
    pytest.param({"question": "q", "answer": "x ### 13"}, "#### <number>`", id="three-marks"),
    pytest.param({"question": "q", "answer": "x ####"}, "one number after", id="nothing-after"),
    pytest.param({"question": "q", "answer": "#### cat"}, "####`, got 'cat'", id="word-after"),
    pytest.param({"question": "q", "answer": "#### 1/2"}, "got '1/2'", id="fraction-after"),
    pytest.param({"question": "q", "answer": "#### 13 apples"}, "'13 apples'", id="unit-after"),
    pytest.param({"question": "q", "answer": "#### 13\nx"}, "'13\\nx'", id="text-after"),
    pytest.param({"question": "q", "answer": "#### nan"}, "got 'nan'", id="nan"),
    pytest.param({"question": "q", "answer": f"#### {'9' * 5000}"}, "5,002", id="5000-digits"),
]

# strict_correct, lenient_correct, strict_format, soft_format, answered, answer
GRADES = [
    pytest.param(GOOD, "1300", (True, True, True, True, True, "1300"), id="right"),
    pytest.param(GOOD, "1,300.00", (True, True, True, True, True, "1300"), id="gold-with-comma"),
    pytest.param(GOOD, "13", (False, False, True, True, True, "1300"), id="wrong"),
    pytest.param(
        GOOD.replace("\n", " "), "1300", (False, True, False, True, True, "1300"), id="soft-form"
    ),
    pytest.param(
        f"{GOOD} Good luck", "1300", (False, True, False, False, True, "1300"), id="text-after"
    ),
    pytest.param(
        f"{GOOD} See page 5", "1300", (False, False, False, False, True, "1300"), id="number-after"
    ),
    pytest.param("It is $13.", "13", (False, True, False, False, True, "13"), id="untagged-right"),
    pytest.param("It is $14.", "13", (False, False, False, False, True, "14"), id="untagged-wrong"),
    pytest.param("#### 13", "13", (False, True, False, False, True, "13"), id="gsm8k-form"),
    pytest.param(
        render("x", "13 apples"), "13", (False, True, True, True, True, "13"), id="unit-in-block"
    ),
    pytest.param(
        render("3 + 10", "many"),
        "10",
        (False, True, True, True, True, "10"),
        id="only-in-reasoning",
    ),
    pytest.param("I do not know.", "13", (False, False, False, False, False, None), id="no-answer"),
    pytest.param("", "13", (False, False, False, False, False, None), id="empty"),
    pytest.param(
        render("So many.", "many"),
        "13",
        (False, False, True, True, False, None),
        id="words-in-form",
    ),
    pytest.param(
        render("x", "13") * 2, "13", (False, True, False, False, True, "13"), id="reply-twice"
    ),
]


@pytest.mark.parametrize(("row", "said"), BAD_ROWS)
def test_a_bad_row_is_refused_by_name(task: Task, row: dict[str, object], said: str) -> None:
    with pytest.raises(BadRow) as raised:
        task.example(row, "train.jsonl:7")
    assert str(raised.value).startswith("row train.jsonl:7: expected ")
    assert said in str(raised.value)


def test_a_row_becomes_an_example(task: Task) -> None:
    row = {
        "question": QUESTION,
        "answer": "Each #### is 1.\nSo 2*650=$<<2*650=1300>>1,300.\n#### 1,300",
        "more": 1,
    }
    assert task.example(row, "x:1") == Example(
        id="x:1",
        question=QUESTION,
        gold="1300",
        solution="Each #### is 1.\nSo 2*650=$1,300.",
    )


@pytest.mark.parametrize(
    ("written", "gold"),
    [("13", "13"), (" 1,300 ", "1300"), ("-5", "-5"), ("0", "0"), ("$2.50", "2.50"), ("7.", "7")],
)
def test_golds_lose_what_is_not_number(task: Task, written: str, gold: str) -> None:
    row = {"question": QUESTION, "answer": f"x\n####{written}"}
    assert task.example(row, "x:1").gold == gold


def test_a_row_may_have_no_solution(task: Task) -> None:
    assert task.example({"question": QUESTION, "answer": "#### 13"}, "x:1").solution == ""


def test_the_prompt_is_the_one_of_the_contract(task: Task) -> None:
    assert task.messages(QUESTION) == messages(QUESTION)


def test_the_data_set_is_pinned(task: Task) -> None:
    assert (task.dataset, task.dataset_config) == ("openai/gsm8k", "main")
    assert len(task.dataset_revision or "") == 40


@pytest.mark.parametrize(("text", "gold", "expected"), GRADES)
def test_grade(task: Task, text: str, gold: str, expected: tuple[object, ...]) -> None:
    came = task.grade(text, replace(ASKED, gold=gold))
    assert expected == (
        came.strict_correct,
        came.lenient_correct,
        came.strict_format,
        came.soft_format,
        came.answered,
        came.answer,
    )


@pytest.mark.parametrize("gold", ["", "cat", "nan", "1/2"])
def test_no_answer_never_equals_no_gold(task: Task, gold: str) -> None:
    with pytest.raises(ValueError, match="expected a number as gold"):
        task.grade("I do not know.", replace(ASKED, gold=gold))


@pytest.mark.parametrize("text", hostile_texts(100_000).values(), ids=hostile_texts(1_000))
def test_grading_survives_hostile_completions(task: Task, text: str) -> None:
    came = task.grade(text, replace(ASKED, gold="1"))
    assert not came.strict_correct
    assert came.answered == (came.answer is not None)


def test_our_own_rows_score_full_marks(task: Task, examples: list[Example]) -> None:
    assert len(examples) == 26
    for example in examples:
        came = task.grade(render(example.solution, example.gold), example)
        assert came.strict_correct, example.id
        assert came.lenient_correct, example.id
        assert "<<" not in example.solution, example.id
    golds = [parse_number(example.gold) for example in examples]
    assert any(gold == 0 for gold in golds)
    assert sum(gold is not None and gold < 0 for gold in golds) == 3


def test_every_gold_answer_of_gsm8k_scores_full_marks(task: Task, gsm8k_dir: Path) -> None:
    counts = {"rows": 0, "commas": 0, "negative": 0, "zero": 0}
    for name in ("train.jsonl", "test.jsonl"):
        for row in text_rows(gsm8k_dir / name):
            example = task.example(row.fields, row.id)
            text = render(example.solution, example.gold)
            assert task.grade(text, example).strict_correct, row.id
            assert task.grade(text, example).lenient_correct, row.id
            assert parse(text).reasoning == example.solution, row.id
            counts["rows"] += 1
            counts["commas"] += "," in row.fields["answer"].rpartition("####")[2]
            counts["negative"] += example.gold.startswith("-")
            counts["zero"] += example.gold == "0"
    # counted apart from this code: 79 + 14 golds with a comma, 3 + 2 below zero, one zero
    assert counts == {"rows": 8792, "commas": 93, "negative": 5, "zero": 1}
