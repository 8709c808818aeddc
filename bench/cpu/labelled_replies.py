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
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.shared.texts import markdown
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import printable
from xmlgrpo_rewards.task import Example
from xmlgrpo_rewards.tasks.gsm8k import TASK
from xmlgrpo_run.rows import read_rows

GOLD_MARK = "A: "
SHOWN_CHARS = 60


@dataclass(frozen=True)
class Labelled:
    """One model's solution of one problem, with the label it came with."""

    row: str
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
    show(given, disagreeing)
    return int(bool(disagreeing))


def read(path: Path) -> Iterator[Labelled]:
    """The labelled solutions of a file.

    Raises:
        UserError: the file or a line of it cannot be read.
    """
    for row in read_rows(path):
        gold = row.fields.get("ground_truth")
        if not isinstance(gold, str) or GOLD_MARK not in gold:
            raise UserError(f"{row.id}: expected `ground_truth` to end with `{GOLD_MARK}<number>`")
        for model, answer in row.fields.items():
            if isinstance(answer, dict):
                right = gold.rpartition(GOLD_MARK)[2]
                yield Labelled(row.id, model, answer["solution"], right, answer["is_correct"])


def lenient(one: Labelled) -> bool:
    """Whether our lenient reading takes a solution for right."""
    return TASK.grade(one.solution, Example("", "", one.gold, "")).lenient_correct


def show(given: list[Labelled], disagreeing: list[Labelled]) -> None:
    """Print agreement a model, then what disagrees and in which way."""
    total, right = Counter(o.model for o in given), Counter(o.model for o in given if o.is_correct)
    wrong = Counter(one.model for one in disagreeing)
    rows = [
        [model, str(count), str(right[model]), str(count - wrong[model])]
        for model, count in total.items()
    ]
    print(markdown(["model", "solutions", "labelled right", "graded as labelled"], rows))
    for one in disagreeing:
        way = "labelled right, graded wrong" if one.is_correct else "labelled wrong, graded right"
        end = " ".join(one.solution.split())[-SHOWN_CHARS:]
        print(f"{one.row}, {one.model}: {way}; gold {one.gold}; ...{printable(end)}")
    agreeing = len(given) - len(disagreeing)
    print(f"{agreeing} of {len(given)} solutions graded as they are labelled")


if __name__ == "__main__":
    run_command(main)
