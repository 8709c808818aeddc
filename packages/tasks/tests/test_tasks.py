"""What every task of this package keeps, whatever it asks."""

import json
import tomllib
from itertools import islice
from pathlib import Path

import pytest

from xmlgrpo_rewards import Task, get_task, render
from xmlgrpo_rewards.task import extras
from xmlgrpo_tasks.graded_task import CORRECT, FORM
from xmlgrpo_tasks.rows import different_rows

PACKAGE = Path(__file__).parents[1]
PROJECT = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMES = [*PROJECT["entry-points"]["xmlgrpo.tasks"]]
LEVELS = [
    pytest.param(get_task(name), level, id=f"{name}-{level}")
    for name in NAMES
    for level in extras(get_task(name)).levels
]


@pytest.mark.parametrize("name", NAMES)
def test_every_task_that_is_offered_loads_under_its_name(name) -> None:
    task = get_task(name)
    assert isinstance(task, Task)
    assert task.name == name


@pytest.mark.parametrize(("task", "level"), LEVELS)
def test_generated_rows_are_certain_different_and_the_same_again(task, level) -> None:
    rows = list(islice(task.generated(400, 5, level), 60))
    assert rows == list(task.generated(60, 5, level))
    assert rows[:20] != list(task.generated(20, 6, level))
    examples = [task.example(row, f"row-{number}") for number, row in enumerate(rows)]
    assert len({example.question for example in examples}) == 60
    again = [json.loads(json.dumps(task.row(example))) for example in examples]
    assert [task.example(row, f"row-{number}") for number, row in enumerate(again)] == examples
    golds = [render(example.solution or "Done.", example.gold) for example in examples]
    grades = task.grade_many(golds, examples)
    assert all(grade.strict_correct and grade.lenient_correct for grade in grades)
    assert not [fault for example in examples[:12] if (fault := task.gold_fault(example))]


@pytest.mark.parametrize(("task", "level"), LEVELS)
def test_a_battery_has_names_of_its_own_and_the_gold_first(task, level) -> None:
    example = task.example(next(task.generated(1, 0, level)), "row")
    first, *others = task.hacks(example)
    assert (first.name, first.earns >= FORM + CORRECT) == ("gold", True)
    names = {hack.name for hack in others}
    assert len(names) == len(others) > 100
    assert names >= {"untagged", "answer-twice", "text-after"}


def test_rows_end_where_no_other_is_left() -> None:
    questions = iter(["a", "b", "a", *["b"] * 20_000])
    rows = different_rows(3, ("question",), lambda _seen: {"question": next(questions)})
    assert list(rows) == [{"question": "a"}, {"question": "b"}]
