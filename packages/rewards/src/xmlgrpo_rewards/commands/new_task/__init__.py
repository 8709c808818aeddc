"""A new task: its folder, configuration, lm-eval definitions, and a test that wants no gap left.

    xmlgrpo-new-task weekday                       in a checkout
    xmlgrpo-new-task weekday --package ~/weekday   as a package of its own

What is written is in the `.txt` files beside this one.  Nothing that is there is overwritten.
"""

import argparse
import keyword
import re
import shlex
import sys
from collections.abc import Mapping
from importlib.resources import files
from os.path import normpath
from pathlib import Path
from string import Template

from xmlgrpo_rewards.console_script import add_version, path_argument, run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_rewards.task import TASK_GROUP, task_names

NAME = re.compile(r"[a-z][a-z0-9_]{1,40}")
TASKS = Path("packages/tasks")
TABLE = f'[project.entry-points."{TASK_GROUP}"]\n'
FORMS = (("_xml", "one_reply"), ("_xml_k", "k_replies"))


def in_checkout(name: str, root: Path) -> dict[Path, str]:
    """The files of a task in a checkout: path -> content.

    Raises:
        UserError: `root` is no checkout.
    """
    described = root / TASKS / "pyproject.toml"
    text = described.read_text(encoding="utf-8") if described.is_file() else ""
    if TABLE not in text:
        raise UserError(
            f"{root} is no checkout of xmlgrpo: run this where its Makefile is, or write a package "
            "of your own: --package FOLDER"
        )
    module, folder = f"xmlgrpo_tasks.{name}", f"src/xmlgrpo_tasks/{name}"
    made = _task_files(name, module, folder, readme=f"{folder}/README.md", tests=f"tests/{name}")
    values = {"name": name}
    for form, template in FORMS:
        definition = _filled(
            "eval.yaml",
            values | {"form": form, "template": template, "version": str(FORMAT_VERSION)},
        )
        made[f"../../eval_tasks/{name}_xml/{name}{form}.yaml"] = definition
    config = f"configs/{name}.yaml"
    made[f"../../{config}"] = _filled("config.yaml", values | {"config": config})
    paths = {root / normpath(TASKS / path): content for path, content in made.items()}
    return paths | {described: text.replace(TABLE, f'{TABLE}{name} = "{module}:TASK"\n')}


def as_package(name: str, folder: Path) -> dict[Path, str]:
    """The files of a task that is a distribution of its own; our evaluation needs no definition."""
    module = f"{name}_task"
    made = _task_files(name, module, f"src/{module}", readme="README.md", tests="tests")
    values = {"name": name, "module": module, "distribution": module.replace("_", "-")}
    made["pyproject.toml"] = _filled("pyproject.toml", values)
    config = f"{name}.yaml"
    made[config] = _filled("config.yaml", values | {"config": str(folder / config)})
    return {folder / path: content for path, content in made.items()}


def _task_files(name: str, module: str, folder: str, *, readme: str, tests: str) -> dict[str, str]:
    """The task, its README and its test, by their paths in the package."""
    code, test = f"{folder}/__init__.py", f"{tests}/test_{name}.py"
    values = {
        "name": name,
        "Name": "".join(part.capitalize() for part in name.split("_")),
        "module": module,
        "files": "".join(f'    "{path}",\n' for path in (code, readme, test)),
    }
    return {
        code: _filled("task.py", values),
        readme: _filled("README.md", values),
        test: _filled("test.py", values),
    }


def _filled(template: str, values: Mapping[str, str]) -> str:
    text = (files(__name__) / f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(values)


def write_task(name: str, package: Path | None, root: Path) -> list[Path]:
    """Write the files; nothing when one is there already.

    Raises:
        UserError: the name is taken or none for a Python module, or a file is there.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UserError(
            "expected a name of small letters, digits and underscores, as 'weekday', and no word "
            f"of Python's, got {name!r}"
        )
    if name in task_names():
        raise UserError(f"a task named {name!r} is installed; take another name")
    made = as_package(name, package) if package else in_checkout(name, root)
    there = [path for path in made if path.exists() and path != root / TASKS / "pyproject.toml"]
    if there:
        raise UserError(f"{there[0]} is there already; remove it, or take another name")
    for path, content in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return list(made)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-new-task", description="Write the files of a new task, with gaps to fill."
    )
    add_version(made)
    made.add_argument("name", help="of the task, such as weekday")
    made.add_argument(
        "--package", type=path_argument, metavar="FOLDER", help="a package of its own, there"
    )
    return made


def main() -> None:
    """Entry point of the console script."""
    run_command(run)


def run() -> None:
    """Parse the command line, write the files, and say what comes next."""
    arguments = parser().parse_args()
    paths = write_task(arguments.name, arguments.package, Path.cwd())
    for path in paths:
        print(path if arguments.package else path.relative_to(Path.cwd()))
    if arguments.package:
        python, package = sys.executable, str(arguments.package)
        install = shlex.join([python, "-m", "pip", "install", "-e", package])
        test = shlex.join([python, "-m", "pytest", str(arguments.package / "tests")])
    else:
        install, test = "make setup", f".venv/bin/pytest {TASKS / 'tests' / arguments.name}"
    print(f"next: {install}, and fill the gaps until this passes: {test}")
