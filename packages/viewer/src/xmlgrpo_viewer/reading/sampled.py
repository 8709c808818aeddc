"""The completions that a run kept of its steps, each with what it earned and what it was worth."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.rows import text_rows
from xmlgrpo_rewards.task import Grade, get_task
from xmlgrpo_run.metrics import finite
from xmlgrpo_viewer.reading.run_view import RunView

Outcome = Literal["right", "right, other form", "wrong", "not graded"]
Grader = Callable[[Mapping[str, Any]], Grade | None]
KEPT_FILES = 20_000  # files of completions that are remembered while a run is watched


@dataclass(frozen=True, slots=True)
class Sampled:
    """One completion of a training step."""

    step: int
    question: str
    gold: str
    text: str
    scores: Mapping[str, float | None]  # by reward, before its weight; None: it had no opinion
    pay: float  # the weighted sum, which is the reward
    outcome: Outcome
    note: str  # why it is not right, where the task says


def read_sampled(view: RunView) -> tuple[list[Sampled], list[str]]:
    """Every kept completion in step order, and a sentence for each file that cannot be read."""
    completions: list[Sampled] = []
    unread: list[str] = []
    for path in sorted(view.run.completions.glob("step-*.jsonl")):
        try:
            stat = path.stat()
            rows = _rows_as_of(str(path), stat.st_mtime_ns, stat.st_size, view.task)
        except OSError:
            continue  # written again just now
        except UserError as error:
            unread.append(str(error))
            continue
        completions += (_paid(row, grade, view.weights) for row, grade in rows)
    return completions, unread


def _paid(row: Mapping[str, Any], grade: Grade | None, weights: Mapping[str, float]) -> Sampled:
    scores = {str(name): finite(score) for name, score in row["scores"].items()}
    return Sampled(
        step=row["step"],
        question=row["question"],
        gold=row["gold"],
        text=row["completion"],
        scores=scores,
        pay=sum(weights.get(name, 1.0) * score for name, score in scores.items() if score),
        outcome=_outcome(grade),
        note=getattr(grade, "note", ""),
    )


def _outcome(grade: Grade | None) -> Outcome:
    if grade is None:
        return "not graded"
    if grade.strict_correct:
        return "right"
    return "right, other form" if grade.lenient_correct else "wrong"


@lru_cache(maxsize=KEPT_FILES)
def _rows_as_of(
    path: str, _mtime_ns: int, _size: int, task: str | None
) -> tuple[tuple[Mapping[str, Any], Grade | None], ...]:
    """A file's rows with their grades: read and graded once, however often a run is looked at."""
    grade = _grader(task)
    return tuple((row, grade(row)) for row in _rows(Path(path)))


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    texts = ("question", "gold", "completion")
    for row in text_rows(path):
        fields = row.fields
        is_one = type(fields.get("step")) is int and isinstance(fields.get("scores"), Mapping)
        if not is_one or not all(isinstance(fields.get(name), str) for name in texts):
            raise UserError(f"{row.id} is not a completion of a training step; it is left out")
        yield fields


@lru_cache(maxsize=4)
def _grader(task_name: str | None) -> Grader:
    """Grades a kept row by the run's task; nothing where the task is not installed here."""
    try:
        task = get_task(task_name) if task_name else None
    except UserError:
        task = None

    def grade(row: Mapping[str, Any]) -> Grade | None:
        if task is None:
            return None
        return task.grade(row["completion"], row["gold"])

    return grade


def paid_but_wrong_first(completions: Sequence[Sampled]) -> list[Sampled]:
    """Wrong ones by what they earned, then the others: where hacking shows, it shows on top."""
    return sorted(completions, key=lambda one: (one.outcome != "wrong", -one.pay, -one.step))
