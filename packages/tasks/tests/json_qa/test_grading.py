"""What replies to one problem deserve, worked out by hand."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from xmlgrpo_rewards import render
from xmlgrpo_rewards.hacks import hostile_texts
from xmlgrpo_rewards.task import Example
from xmlgrpo_tasks.json_qa import TASK, generate
from xmlgrpo_tasks.json_qa.domains import record

# One row with every kind of leaf.
TEXT, COUNT = {"type": "string"}, {"type": "integer"}
ROW = {
    "text": "Ann Lee, 30, of Oslo, not married, speaks Hindi, Thai. Visit 2026-05-08, fee $12.50.",
    "question": "Who is it?",
    "schema": record(
        name=TEXT,
        age=COUNT,
        married={"type": "boolean"},
        home=record(city=TEXT, zip={"type": ["string", "null"]}),
        languages={"type": "array", "items": TEXT},
        visit={"type": "string"},
        fee={"type": "number"},
    ),
    "gold": {
        "name": "Ann Lee", "age": 30, "married": False, "home": {"city": "Oslo", "zip": None},
        "languages": ["Hindi", "Thai"], "visit": "2026-05-08", "fee": 12.5,
    },
    "compare": {"/languages": "set", "/visit": "date", "/fee": "number"},
}  # fmt: skip
EXAMPLE = TASK.example(ROW, "row")
GOLD = EXAMPLE.gold
RIGHT, VALID, PARSES, NOTHING = 2.5, 0.5, 0.25, 0.0


def paid(text: str, example: Example = EXAMPLE) -> float:
    grade = TASK.grade(text, example)
    return sum(reward(grade) for reward in TASK.rewards.values())


def swap(old: str, new: str) -> str:
    assert old in GOLD
    return GOLD.replace(old, new)


@pytest.mark.parametrize(
    ("answer", "pays", "lenient"),
    [
        pytest.param(GOLD, RIGHT, True, id="gold"),
        pytest.param(GOLD.replace(" ", "\n\t"), NOTHING, False, id="newlines-in-texts"),
        pytest.param(GOLD.replace(": ", ":\n\t"), RIGHT, True, id="white-space"),
        pytest.param(swap("Oslo", "\\u004f\\u0073lo"), RIGHT, True, id="escapes"),
        pytest.param(swap('"Hindi", "Thai"', '"Thai", "Hindi"'), RIGHT, True, id="set-reordered"),
        pytest.param(swap("2026-05-08", "8 May 2026"), RIGHT, True, id="date-in-words"),
        pytest.param(swap("12.5", "1.25e1"), RIGHT, True, id="number-with-exponent"),
        pytest.param(swap('"Hindi"', '"Hindi", "Hindi"'), VALID, False, id="twice-in-a-set"),
        pytest.param(swap('"Hindi", ', ""), VALID, False, id="one-of-a-set-missing"),
        pytest.param(swap("30", '"30"'), PARSES, True, id="number-as-text"),
        pytest.param(swap("30", "30.0"), VALID, True, id="decimal-for-whole"),
        pytest.param(swap("30", "31"), VALID, False, id="other-number"),
        pytest.param(swap("30", "true"), PARSES, False, id="true-for-a-number"),
        pytest.param(swap("false", "0"), PARSES, False, id="zero-for-false"),
        pytest.param(swap("false", '"false"'), PARSES, False, id="text-for-false"),
        pytest.param(swap("null", '""'), VALID, False, id="empty-for-null"),
        pytest.param(swap("12.5", "12.50000000000000000001"), VALID, False, id="almost"),
        pytest.param(swap("12.5", '"$12.50"'), PARSES, True, id="money-as-text"),
        pytest.param(swap("Oslo", "oslo"), VALID, False, id="other-case"),
        pytest.param(swap("Oslo", "Оslо"), VALID, False, id="confusables"),
        pytest.param(swap("Oslo", "Oslo\u200b"), VALID, False, id="zero-width-space"),
        pytest.param(swap("2026-05-08", "08/05/2026"), VALID, False, id="date-that-may-be-two"),
        pytest.param(swap('"age"', '"Age"'), PARSES, True, id="key-in-capitals"),
        pytest.param(swap('"age"', '"age "'), PARSES, False, id="key-with-a-space"),
        pytest.param(swap('{"name"', '{"note": 1, "name"'), PARSES, False, id="extra-key"),
        pytest.param(swap('{"name"', '{"name": 1, "name"'), NOTHING, False, id="key-twice"),
        pytest.param(swap('{"name"', '{"__proto__": 1, "name"'), PARSES, False, id="prototype"),
        pytest.param("{}", PARSES, False, id="empty-object"),
        pytest.param(f"```json\n{GOLD}\n```", NOTHING, True, id="fence"),
        pytest.param(f"{GOLD} That is all.", NOTHING, True, id="text-after"),
        pytest.param(f"{GOLD}\n{GOLD}", NOTHING, True, id="twice"),
        pytest.param(f"{GOLD}\n{{}}", NOTHING, False, id="two-objects"),
        pytest.param(f"[{GOLD}, {swap('30', '31')}]", NOTHING, False, id="candidates"),
        pytest.param(GOLD.replace('"', "'"), NOTHING, False, id="single-quotes"),
        pytest.param(f"{GOLD[:-1]},}}", NOTHING, False, id="trailing-comma"),
        pytest.param(swap("12.5", "NaN"), NOTHING, False, id="nan"),
        pytest.param(swap("12.5", "1e999"), NOTHING, False, id="infinite"),
        pytest.param(swap("Oslo", "\\ud800"), NOTHING, False, id="half-a-character"),
        pytest.param(swap("Oslo", "Oslo\\u0000"), NOTHING, False, id="nul"),
        pytest.param(f"\ufeff{GOLD}", NOTHING, True, id="byte-order-mark"),
        pytest.param("null", NOTHING, False, id="null"),
        pytest.param(
            '{"name": "", "age": 0, "married": false, "home": {"city": "", "zip": null}, '
            '"languages": [], "visit": "", "fee": 0}',
            PARSES, False, id="valid-and-only-what-needs-no-passage-right",
        ),
        pytest.param(
            '{"name": "Ann Lee", "age": 0, "married": true, "home": {"city": "", "zip": ""}, '
            '"languages": [], "visit": "", "fee": 0}',
            VALID, False, id="valid-and-one-right",
        ),
    ],
)  # fmt: skip
def test_an_answer_is_paid_for_what_it_says(answer: str, pays: float, *, lenient: bool) -> None:
    grade = TASK.grade(render("It says so.", answer), EXAMPLE)
    assert paid(render("It says so.", answer)) == pays
    assert grade.strict_correct == (pays == RIGHT)
    assert grade.lenient_correct == lenient
    assert bool(grade.note) != grade.strict_correct
    assert grade.note.isprintable()


@pytest.mark.parametrize(
    ("reply", "pays", "lenient", "answered"),
    [
        pytest.param(GOLD, NOTHING, True, True, id="untagged"),
        pytest.param(f"Here it is: {GOLD}. Good luck!", NOTHING, True, True, id="in-a-sentence"),
        pytest.param(f"```\n{{}}\n```\nor\n```\n{GOLD}\n```", NOTHING, True, True, id="last-fence"),
        pytest.param(f"```\n{GOLD}\n```\nor\n```\n{{}}", NOTHING, False, True, id="open-fence"),
        pytest.param(f"{{}} or {GOLD}", NOTHING, False, False, id="two-objects"),
        pytest.param(f"\\boxed{{{GOLD}}}", NOTHING, True, True, id="boxed"),
        pytest.param(render("x", GOLD).replace("\n", ""), VALID, True, True, id="soft-form"),
        pytest.param(f"{render('x', GOLD)}\nDone.", VALID, True, True, id="text-after"),
        pytest.param(f"{render('x', '{}')}\n<answer>{GOLD}</answer>", NOTHING, False, False,
                     id="two-answers"),
        pytest.param(render(GOLD, "{}"), PARSES, False, True, id="right-in-the-reasoning"),
        pytest.param(render("It says so.", "no"), NOTHING, False, False, id="no-object"),
        pytest.param("", NOTHING, False, False, id="empty"),
        pytest.param("\ud800", NOTHING, False, False, id="half-a-character"),
    ],
)  # fmt: skip
def test_the_form_decides_what_is_read(
    reply: str, pays: float, *, lenient: bool, answered: bool
) -> None:
    grade = TASK.grade(reply, EXAMPLE)
    assert (paid(reply), grade.lenient_correct, grade.answered) == (pays, lenient, answered)
    assert not grade.strict_correct


@pytest.mark.parametrize(
    ("answer", "note", "share"),
    [
        pytest.param(GOLD, "", 1.0, id="right"),
        pytest.param(swap("30", "31"), "8 of 9 values right, 9 given", 8 / 9, id="one-wrong"),
        pytest.param("{}", "not valid: $: 'name' is a required property", 0.0, id="not-valid"),
        pytest.param("no", "not JSON: Expecting value: line 1 column 1 (char 0)", 0.0, id="none"),
    ],
)
def test_the_note_says_why_and_the_share_how_much(answer: str, note: str, share: float) -> None:
    grade = TASK.grade(render("It says so.", answer), EXAMPLE)
    assert (grade.note, grade.share) == (note, share)


def test_the_answer_is_one_spelling_of_what_was_said() -> None:
    spellings = (GOLD, GOLD.replace(": ", ":"), swap("Oslo", "\\u004fslo"))
    assert len({TASK.grade(render("x", text), EXAMPLE).answer for text in spellings}) == 1


def lines_run(call: Callable[[], object]) -> int:
    """How many lines of Python a call runs: its steps, whatever else the machine does."""
    lines = 0

    def count(frame: FrameType, event: str, _found: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        call()
    finally:
        sys.settrace(before)
    return lines


HOSTILE = {
    "open braces": '{"a":',
    "open lists": '{"a":[',
    "closed braces": "{}",
    "objects": '{"a": 1} ',
    "quotes": '{"\\"',
    "backslashes": '{"\\\\',
    "fences": "```",
    "pairs": '"a": 1, ',
    "levels": '{"a": {"a": [1, 2]}} {',
}


@pytest.mark.parametrize("name", [*HOSTILE, *hostile_texts(1000)])
@pytest.mark.parametrize("inside", [False, True], ids=["bare", "in-the-answer"])
def test_steps_do_not_grow_with_a_hostile_reply(name: str, *, inside: bool) -> None:
    def steps(length: int) -> int:
        part = HOSTILE.get(name)
        text = hostile_texts(length)[name] if part is None else part * (length // len(part))
        reply = render("x", text) if inside else text
        TASK.grade(reply, EXAMPLE)  # what is kept is made
        return lines_run(lambda: TASK.grade(reply, EXAMPLE))

    shorter, longer = steps(50_000), steps(100_000)
    assert longer <= shorter + 500
    assert longer < 120_000


def test_every_hack_of_every_kind_of_row_earns_no_more_than_it_says() -> None:
    tried = 0
    for number, row in enumerate(generate.generated(12, seed=5)):
        example = TASK.example(row, f"row-{number}")
        hacks = list(TASK.hacks(example))
        assert len({hack.name for hack in hacks}) == len(hacks) >= 110
        for hack in hacks:
            grade = TASK.grade(hack.reply, example)
            assert grade.strict_correct == (hack.earns == 4.0), (hack.name, row)
        tried += len(hacks)
    assert tried > 1500
