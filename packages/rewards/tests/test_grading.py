"""A task whose golds are texts, with all that a task may offer: graded once, paid by its grade."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from xmlgrpo_rewards import (
    Example,
    Grade,
    Hack,
    Task,
    UserError,
    grading,
    load_rewards,
    render,
    reply,
    total,
)
from xmlgrpo_rewards.commands.validate import battery
from xmlgrpo_rewards.grading import example_of, grade_all, grades
from xmlgrpo_rewards.task import FORM_REWARDS, Words, default_rewards, extras
from xmlgrpo_rewards.total import CLASSIC

COLUMNS = {
    "answer": ["cat", "cat", "dog"],
    "question": ["Which?", "Which?", "What?"],
    "id": ["a", "a", "b"],
    "judge": ["", "", '{"also": "hound"}'],
}
RIGHT, WRONG = render("It says so.", "cat"), render("It says so.", "cow")

WORDS = Words(answer="animal")


@dataclass
class Animals:
    """Names an animal; counts what it is asked to grade."""

    name: str = "animals"
    dataset: str = "me/animals"
    dataset_config: str | None = None
    dataset_revision: str | None = None
    words: Words = WORDS
    batches: list[list[tuple[str, str]]] = field(default_factory=list)
    rewards: Mapping[str, Callable[[Grade], float]] = field(
        default_factory=lambda: {
            "correctness": lambda grade: 2.0 * grade.strict_correct,
            "short": lambda grade: 0.25 * ("short" in grade.parts),
        }
    )

    def example(self, row: Mapping[str, Any], row_id: str, /) -> Example:
        return Example(row_id, row["question"], row["gold"], "")

    def row(self, example: Example, /) -> dict[str, Any]:
        return {"question": example.question, "gold": example.gold}

    def messages(self, question: str, /) -> list[dict[str, str]]:
        return reply.messages(question)

    def grade(self, text: str, example: Example, /) -> Grade:
        read = reply.parse(text)
        right = read.answer in {example.gold, *([] if not example.judge else ["hound"])}
        parts = frozenset({"short"} if len(read.answer or "") == 3 else ())
        note = "" if right else f"not {example.gold}"
        shown = (read.strict, read.soft, read.answer is not None, read.answer)
        return Grade(read.strict and right, right, *shown, note=note, parts=parts)

    def grade_many(self, texts: Sequence[str], examples: Sequence[Example], /) -> list[Grade]:
        self.batches.append([(t, e.gold) for t, e in zip(texts, examples, strict=True)])
        return [self.grade(text, example) for text, example in zip(texts, examples, strict=True)]

    def gold_fault(self, example: Example, /) -> str | None:
        return "a cow is no animal here" if example.gold == "cow" else None

    def hacks(self, example: Example, /) -> Iterable[Hack]:
        yield Hack("wrong", render("It says so.", "cow"), 1.75)
        yield Hack("bare", example.gold, 0.0)


@pytest.fixture
def animals(monkeypatch: pytest.MonkeyPatch) -> Animals:
    monkeypatch.setattr(grading, "MOST_KEPT", 4)
    return Animals()


def test_a_completion_is_graded_once_whatever_asks(animals: Animals) -> None:
    rewards = load_rewards({"correctness": 1.0, "short": 2.0}, animals)
    hound = [{"role": "assistant", "content": render("It barks.", "hound")}]
    earned = total(rewards, [RIGHT, RIGHT, hound], **COLUMNS)
    assert [one.parts for one in earned] == [
        {"correctness": 2.0, "short": 0.25},
        {"correctness": 2.0, "short": 0.25},
        {"correctness": 2.0, "short": 0.0},
    ]
    assert [len(batch) for batch in animals.batches] == [2]
    [grade] = grades(animals, [WRONG], {"answer": ["cat"]})
    assert grade.note == "not cat"
    assert len(animals.batches) == 2


def test_grades_do_not_pile_up_and_a_larger_batch_is_kept_whole(animals: Animals) -> None:
    def example(n: int) -> Example:
        return Example(str(n), "Which?", f"cat {n}", "")

    many = [example(n) for n in range(9)]
    for _ in range(2):
        grade_all(animals, [RIGHT] * 9, many)
    assert [len(batch) for batch in animals.batches] == [9]
    grade_all(animals, [RIGHT], [example(10)])
    grade_all(animals, [RIGHT], [example(8)])  # one of the four newest
    grade_all(animals, [RIGHT], [example(0)])
    assert [len(batch) for batch in animals.batches] == [9, 1, 1]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"gold": "cow"}, id="gold"),
        pytest.param({"question": "Whose?"}, id="question"),
        pytest.param({"judge": "{}"}, id="judge"),
        pytest.param(
            {"question": "Which?c", "gold": "at"}, id="the same letters, parted elsewhere"
        ),
    ],
)
def test_another_problem_is_graded_anew(animals: Animals, change: dict[str, str]) -> None:
    fields = {"id": "a", "question": "Which?", "gold": "cat", "solution": "", "judge": ""}
    grade_all(animals, [RIGHT], [example_of(fields | {"task": "animals"})])
    grade_all(animals, [RIGHT], [example_of(fields | change)])
    grade_all(animals, [RIGHT], [example_of(fields | {"id": "b", "solution": "By ear."})])
    assert [len(batch) for batch in animals.batches] == [1, 1]


def test_two_tasks_do_not_share_grades(animals: Animals) -> None:
    other, example = Animals(), Example("a", "Which?", "cat", "")
    grade_all(animals, [RIGHT], [example])
    grade_all(other, [RIGHT], [example])
    assert len(other.batches) == 1


@pytest.mark.parametrize("text", ["\ud800", "", "\x00" * 5])
def test_any_text_can_be_kept(animals: Animals, text: str) -> None:
    assert not grade_all(animals, [text], [Example("a", "Which?", "cat", "")])[0].answered


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        pytest.param({}, "3 values in the column 'answer', got NoneType", id="none"),
        pytest.param({"answer": "cat"}, "'answer', got str", id="a-text"),
        pytest.param({"answer": ["cat"]}, "'answer', got 1", id="too-few"),
        pytest.param({"answer": ["a"] * 3, "judge": []}, "'judge', got 0", id="no-judges"),
    ],
)
def test_columns_that_do_not_fit_are_named(
    animals: Animals, columns: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        grades(animals, [RIGHT] * 3, columns)


def test_the_names_of_rewards_follow_the_task(animals: Animals, task: Task) -> None:
    assert list(default_rewards(animals)) == ["correctness", "short", *FORM_REWARDS]
    assert list(default_rewards(task)) == list(CLASSIC)
    with pytest.raises(
        UserError, match=r": correctness, short, corr.*did you mean 'correctness'\?$"
    ):
        load_rewards({"corectness": 1.0}, animals)
    with pytest.raises(UserError, match="no reward is named 'short'"):
        load_rewards({"short": 1.0}, task)


def test_what_a_task_does_not_offer_has_one_default(animals: Animals, task: Task) -> None:
    plain, full = extras(task), extras(animals)
    example = Example("a", "How many?", "3", "")
    assert plain.gold_fault(example) is None
    assert list(plain.hacks(example)) == []
    assert len(list(battery(task, example))) > 100
    assert list(battery(animals, example)) == list(full.hacks(example))
    assert plain.generated is None
    assert [g.strict_correct for g in plain.grade_many([RIGHT], [example])] == [False]
    assert full.gold_fault(Example("a", "Which?", "cow", "")) == "a cow is no animal here"
    assert full.words.answer == "animal"
