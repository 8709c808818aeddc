"""What every task of this package keeps, whatever it asks."""

import tomllib
from pathlib import Path

from xmlgrpo_rewards import Task, get_task

PACKAGE = Path(__file__).parents[1]


def test_every_task_that_is_offered_loads_under_its_name() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in project["entry-points"]["xmlgrpo.tasks"]:
        task = get_task(name)
        assert isinstance(task, Task)
        assert task.name == name
