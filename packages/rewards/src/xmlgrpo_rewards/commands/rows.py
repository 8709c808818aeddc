"""Rows that a task makes by itself, as files: one to train on, one to be judged by.

    xmlgrpo-rows sql data/sql --train 2000 --test 500 --seed 0
    python -m xmlgrpo_rewards.commands.rows sql data/sql

The same seed gives the same files.  No question stands in both, and the test file does not depend
on how many rows are made to train on.
"""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.adapters import trl, verl
from xmlgrpo_rewards.commands.progress import with_progress
from xmlgrpo_rewards.console_script import add_version, path_argument, run_command, seed_argument
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Task, extras, get_task, sound_example, task_names

TRAIN_ROWS, TEST_ROWS = 2000, 500
OTHER_TRAINERS = {"trl": trl.row, "verl": verl.row}
MOST_ROWS = 1_000_000


def made_rows(
    task: Task, count: int, seed: int, level: str | None = None
) -> Iterator[dict[str, Any]]:
    """So many rows of the task's own making, no two with one question, each looked at.

    Args:
        level: how hard they are, of the task's `levels`; None is its own choice.

    Raises:
        UserError: the task makes no rows, or fewer, or has no such level.
        FaultyRow: it has made one that it finds a fault with.
    """
    generated = extras(task).generated
    if generated is None:
        able = ", ".join(name for name in task_names() if extras(get_task(name)).generated)
        raise UserError(
            f"the task {task.name!r} makes no rows of its own; those that do: {able or 'none'}"
        )
    levels = extras(task).levels
    if level is not None and level not in levels:
        there = ", ".join(levels) or "none"
        raise UserError(f"--level: the task {task.name!r} has no {level!r}; there are: {there}")
    rows = generated(count, seed) if level is None else generated(count, seed, level)
    asked: set[str] = set()
    for number, row in enumerate(rows, start=1):
        example = sound_example(task, row, f"generated:{number}")
        if example.question not in asked:
            asked.add(example.question)
            yield row
    if len(asked) < count:
        raise UserError(
            f"the task {task.name!r} has made {len(asked):,} different problems of the {count:,} "
            "that were asked for; ask for fewer"
        )


def write_rows(
    task: Task,
    folder: Path,
    *,
    train: int,
    test: int,
    seed: int,
    level: str | None = None,
    trainer: str = "",
) -> list[Path]:
    """Write `test.jsonl` and `train.jsonl` into `folder`; both or, where anything fails, neither.

    Args:
        trainer: one of `OTHER_TRAINERS`, whose data sets have the problems in another form.

    Raises:
        UserError: as `made_rows`; or a file is there already that holds something else, or no
            folder can be there.
    """
    _check_place(folder)
    count = test + train
    made = made_rows(task, count, seed, level)
    rows = list(with_progress(made, "generated", "rows", lambda: count))
    if form := OTHER_TRAINERS.get(trainer):
        rows = [form(task, task.example(row, f"generated:{n}")) for n, row in enumerate(rows, 1)]
    contents = {
        folder / f"{split}.jsonl": "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in part)
        for split, part in (("test", rows[:test]), ("train", rows[test:]))
        if part
    }
    for path, content in contents.items():
        if path.exists() and path.read_bytes() != content.encode():
            raise UserError(f"{path} is there, with other rows; remove it, or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as unfinished:  # neither is named before both are written
        partials = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in contents}
        for path, partial in partials.items():
            unfinished.callback(partial.unlink, missing_ok=True)
            partial.write_text(contents[path], encoding="utf-8")
        for path, partial in partials.items():
            partial.replace(path)
    return list(contents)


def _check_place(folder: Path) -> None:
    """Refuse a place for no files before the rows are made, which takes a while."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"expected a folder at {str(there)!r}, got a file; name another folder")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-rows", description="Write rows that a task makes by itself, as JSON lines."
    )
    add_version(made)
    made.add_argument("task", help=f"one of: {', '.join(task_names())}")
    made.add_argument("folder", type=path_argument, help="for train.jsonl and test.jsonl")
    made.add_argument("--train", type=int, default=TRAIN_ROWS, help=f"rows ({TRAIN_ROWS})")
    made.add_argument("--test", type=int, default=TEST_ROWS, help=f"rows ({TEST_ROWS})")
    made.add_argument("--seed", type=seed_argument, default=0, help="another seed, other rows (0)")
    made.add_argument("--level", help="how hard they are (default: the task's own choice)")
    made.add_argument(
        "--for", dest="trainer", default="", choices=OTHER_TRAINERS, help="another trainer's form"
    )
    return made


def main() -> None:
    """Entry point of the console script."""
    run_command(run)


def run() -> None:
    """Parse the command line and write the files."""
    arguments = parser().parse_args()
    for name in ("train", "test"):
        if not 0 <= getattr(arguments, name) <= MOST_ROWS:
            raise UserError(
                f"--{name}: expected 0 to {MOST_ROWS:,}, got {getattr(arguments, name)}"
            )
    if not arguments.train + arguments.test:
        raise UserError("--train and --test are both 0; ask for at least one row")
    task = get_task(arguments.task)
    counts = {"train": arguments.train, "test": arguments.test}
    made = {"seed": arguments.seed, "level": arguments.level, "trainer": arguments.trainer}
    files = write_rows(task, arguments.folder, **counts, **made)
    print(f"{arguments.test:,} rows to be judged by and {arguments.train:,} to train on:", *files)


if __name__ == "__main__":
    main()
