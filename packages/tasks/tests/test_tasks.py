"""What every task of this package keeps, whatever it asks."""

import tomllib
from pathlib import Path

from xmlgrpo_rewards import Task, get_task
from xmlgrpo_tasks.rows import different_rows

PACKAGE = Path(__file__).parents[1]


def test_every_task_that_is_offered_loads_under_its_name() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in project["entry-points"]["xmlgrpo.tasks"]:
        task = get_task(name)
        assert isinstance(task, Task)
        assert task.name == name


def test_rows_end_where_no_other_is_left() -> None:
    questions = iter(["a", "b", "a", *["b"] * 20_000])
    rows = different_rows(3, ("question",), lambda _seen: {"question": next(questions)})
    assert list(rows) == [{"question": "a"}, {"question": "b"}]
