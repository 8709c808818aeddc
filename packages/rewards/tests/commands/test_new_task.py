"""The files of a new task: written once, with gaps; docs/add-a-task.md is followed elsewhere."""

import ast
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from xmlgrpo_rewards import UserError
from xmlgrpo_rewards.commands.new_task import TABLE, TASKS, run, write_task


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    described = tmp_path / TASKS / "pyproject.toml"
    described.parent.mkdir(parents=True)
    described.write_text(f'[project]\nname = "x"\n\n{TABLE}sql = "xmlgrpo_tasks.sql:TASK"\n')
    return tmp_path


def test_in_a_checkout_it_is_one_folder_and_one_line(checkout: Path) -> None:
    paths = write_task("day_of_week", None, checkout)
    assert {str(path.relative_to(checkout)) for path in paths} == {
        "packages/tasks/src/xmlgrpo_tasks/day_of_week/__init__.py",
        "packages/tasks/src/xmlgrpo_tasks/day_of_week/README.md",
        "packages/tasks/tests/day_of_week/test_day_of_week.py",
        "packages/tasks/pyproject.toml",
        "configs/day_of_week.yaml",
        "eval_tasks/day_of_week_xml/day_of_week_xml.yaml",
        "eval_tasks/day_of_week_xml/day_of_week_xml_k.yaml",
    }
    project = tomllib.loads((checkout / TASKS / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["xmlgrpo.tasks"] == {
        "day_of_week": "xmlgrpo_tasks.day_of_week:TASK",
        "sql": "xmlgrpo_tasks.sql:TASK",
    }
    code = (checkout / TASKS / "src/xmlgrpo_tasks/day_of_week/__init__.py").read_text()
    assert "class DayOfWeek" in code
    assert code.count("GAP:") >= 5
    with pytest.raises(UserError, match=r"__init__\.py is there already"):
        write_task("day_of_week", None, checkout)


def test_a_package_of_its_own_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "weekday"
    paths = write_task("weekday", folder, tmp_path / "anywhere")
    assert all(path.is_relative_to(folder) for path in paths)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["xmlgrpo.tasks"] == {"weekday": "weekday_task:TASK"}
    config = folder / "weekday.yaml"
    assert config.read_text().startswith(f"# make train CONFIG={config}\n")
    for path in paths:
        if path.suffix == ".py":
            ast.parse(path.read_text())
            assert "$" not in path.read_text()


def test_what_comes_next_can_be_typed_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my tasks" / "week day"
    monkeypatch.setattr(sys, "argv", ["xmlgrpo-new-task", "weekday", "--package", str(folder)])
    run()
    said = capsys.readouterr().out.splitlines()[-1].removeprefix("next: ")
    install, test = said.split(", and fill the gaps until this passes: ")
    assert shlex.split(install)[1:] == ["-m", "pip", "install", "-e", str(folder)]
    assert shlex.split(test)[1:] == ["-m", "pytest", str(folder / "tests")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("gsm8k", "a task named 'gsm8k' is installed", id="taken"),
        pytest.param("Week Day", "expected a name of small letters", id="not-a-module"),
        pytest.param("class", "expected a name of small letters", id="a-keyword"),
        pytest.param("../x", "expected a name of small letters", id="a-path"),
        pytest.param("weekday", "is no checkout of xmlgrpo: run this where", id="elsewhere"),
    ],
)
def test_what_cannot_be_is_refused_and_writes_nothing(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        write_task(name, None, tmp_path)
    assert list(tmp_path.iterdir()) == []
