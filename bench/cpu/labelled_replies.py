"""Hold the grader against thousands of model outputs that others have labelled right or wrong.

    python -m bench.cpu.labelled_replies example_model_solutions.jsonl

The file is `grade_school_math/data/example_model_solutions.jsonl` of openai/grade-school-math on
GitHub: GSM8K's 1,319 test problems with four models' solutions each, each with `is_correct`, by
Cobbe et al. 2021 (arXiv 2110.14168).  A line is an object with `question`, with `ground_truth`
ending in `A: <number>`, and for each model an object with `solution` and `is_correct`.  Those
models were trained to end with `A: <number>`, not to write our form, so it is the lenient reading
(the last number of the reply) that is held against the labels.

Exit code 1 when the two disagree anywhere.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Example
from xmlgrpo_rewards.tasks.gsm8k import TASK

GOLD_MARK = "A: "
SHOWN_CHARS = 60


@dataclass(frozen=True)
class Labelled:
    """One model's solution of one problem, with the label it came with."""

    line: int
    model: str
    solution: str
    gold: str
    is_correct: bool


def main() -> int:
    """Grade, print the table and every disagreement, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="labelled solutions, a JSON object a line")
    given = list(read(parser.parse_args().file))
    if not given:
        raise UserError("no labelled solution in the file: expected objects with `is_correct`")
    disagreeing = [one for one in given if lenient(one) != one.is_correct]
    console = Console()
    show(given, disagreeing, console)
    return int(bool(disagreeing))


def read(path: Path) -> Iterator[Labelled]:
    """The labelled solutions of a file.

    Raises:
        UserError: the file or a line of it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            _, mark, gold = row["ground_truth"].rpartition(GOLD_MARK)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}, line {number}: not a labelled problem: {error!r}") from None
        if not mark:
            raise UserError(f"{path}, line {number}: expected `{GOLD_MARK}<number>` as its truth")
        for model, answer in row.items():
            if isinstance(answer, dict):
                yield Labelled(number, model, answer["solution"], gold, answer["is_correct"])


def lenient(one: Labelled) -> bool:
    """Whether our lenient reading takes a solution for right."""
    return TASK.grade(one.solution, Example("", "", one.gold, "")).lenient_correct


def show(given: list[Labelled], disagreeing: list[Labelled], console: Console) -> None:
    """Print agreement a model, then what disagrees and in which way."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("model", "solutions", "labelled right", "graded as labelled"):
        table.add_column(name, justify="left" if name == "model" else "right")
    total, right = Counter(o.model for o in given), Counter(o.model for o in given if o.is_correct)
    wrong = Counter(one.model for one in disagreeing)
    for model, count in total.items():
        table.add_row(model, str(count), str(right[model]), str(count - wrong[model]))
    console.print(table)
    for one in disagreeing:
        way = "labelled right, graded wrong" if one.is_correct else "labelled wrong, graded right"
        end = " ".join(one.solution.split())[-SHOWN_CHARS:]
        console.print(
            f"line {one.line}, {one.model}: {way}; gold {one.gold}; ...{escape(end)}",
            highlight=False,
            soft_wrap=True,
        )
    agreeing = len(given) - len(disagreeing)
    console.print(f"{agreeing} of {len(given)} solutions graded as they are labelled")


if __name__ == "__main__":
    run_command(main)
