"""The completions that a run kept of its steps, each with what it earned and what it was worth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.rows import text_rows
from xmlgrpo_rewards.task import Example
from xmlgrpo_run.manifest import require_as_trained
from xmlgrpo_run.metrics import finite
from xmlgrpo_viewer.reading.run_view import RunView

Outcome = Literal["wrong", "right, other form", "right"]
KEPT_FILES = 20_000  # files of completions that are remembered while a run is watched
TEXTS = ("question", "gold", "completion")


@dataclass(frozen=True, slots=True)
class Sampled:
    """One completion of a training step."""

    step: int
    example: Example  # without its solution
    text: str
    scores: Mapping[str, float | None]  # by reward, before its weight; None: it had no opinion
    outcome: Outcome  # as it was graded when it was drawn
    note: str  # why it is not right, where the task says

    def pay(self, weights: Mapping[str, float]) -> float:
        """The weighted sum, which is the reward."""
        return sum(weights.get(name, 1.0) * score for name, score in self.scores.items() if score)


def read_sampled(view: RunView) -> tuple[list[Sampled], list[str]]:
    """Every kept completion in step order, and a sentence for each file that cannot be read.

    Raises:
        UserError: a finished run's completions are not what training left.
    """
    completions: list[Sampled] = []
    left = _left_by_training(view)
    lost = sum(not (view.run.root / name).is_file() for name in left)
    unread = [f"{lost} of {len(left)} files of completions that training left"] if lost else []
    for path in sorted(view.run.completions.glob("step-*.jsonl")):
        if left and view.manifest is not None:
            require_as_trained(view.run, view.manifest, path)
        try:
            stat = path.stat()
            completions += _sampled_as_of(str(path), stat.st_mtime_ns, stat.st_size)
        except OSError:
            continue  # written again just now
        except UserError as error:
            unread.append(str(error))
    return completions, unread


def _left_by_training(view: RunView) -> list[str]:
    """The files of completions that the manifest of a finished run names."""
    names = view.manifest.files if view.manifest else ()
    return [name for name in names if name.startswith(f"{view.run.completions.name}/")]


def paid_but_wrong_first(
    completions: Sequence[Sampled], weights: Mapping[str, float]
) -> list[Sampled]:
    """Wrong ones by what they earned, then the others: where hacking shows, it shows on top."""
    return sorted(completions, key=lambda o: (o.outcome != "wrong", -o.pay(weights), -o.step))


@lru_cache(maxsize=KEPT_FILES)
def _sampled_as_of(path: str, _mtime_ns: int, _size: int) -> tuple[Sampled, ...]:
    """A file's completions, read once, however often a run is looked at."""
    return tuple(_sampled(Path(path)))


def _sampled(path: Path) -> Iterator[Sampled]:
    for row in text_rows(path):
        fields = row.fields
        is_one = type(fields.get("step")) is int and isinstance(fields.get("scores"), Mapping)
        is_one = is_one and {"strict_correct", "lenient_correct"} <= fields.keys()
        if not is_one or not all(isinstance(fields.get(name), str) for name in TEXTS):
            raise UserError(f"{row.id} is not a completion of a training step; it is left out")
        yield Sampled(
            step=fields["step"],
            example=Example(
                id=str(fields.get("id", row.id)),
                question=fields["question"],
                gold=fields["gold"],
                solution="",
                judge=str(fields.get("judge", "")),
            ),
            text=fields["completion"],
            scores={str(name): finite(score) for name, score in fields["scores"].items()},
            outcome=_outcome(fields),
            note=str(fields.get("note", "")),
        )


def _outcome(fields: Mapping[str, Any]) -> Outcome:
    if fields["strict_correct"]:
        return "right"
    return "right, other form" if fields["lenient_correct"] else "wrong"
