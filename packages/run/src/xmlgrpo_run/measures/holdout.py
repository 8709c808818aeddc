"""Held-out replies of a run, before, during and after training, and what is counted of them.

Four shares measure four things.  Strict format: was the reply in the form asked for?  Strict
accuracy: in that form *and* right?  Lenient accuracy: is the last number of the reply right,
whatever its form?  Worked: is a sum written out?  A gain in strict accuracy alone may be format
only; lenient accuracy cannot be lifted by format.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.interval import Share
from xmlgrpo_run.files import read_sealed, write_sealed

# a share of the items -> the field that is counted
SHARES = {
    "strict_format": "strict_format",
    "strict_accuracy": "strict_correct",
    "lenient_accuracy": "lenient_correct",
    "worked": "worked",
    "truncated": "truncated",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One held-out problem and the model's greedy reply to it."""

    id: str
    question: str
    gold: str
    reply: str
    tokens: int
    strict_format: bool
    strict_correct: bool
    lenient_correct: bool
    worked: bool
    truncated: bool
    answered: bool
    note: str = ""  # why the reply is not right, where the task says so

    @property
    def outcome(self) -> str:
        """How it ended, in a word or two."""
        if self.strict_correct:
            return "right"
        return "right, other form" if self.lenient_correct else "wrong"


@dataclass(frozen=True, slots=True)
class HoldoutResult:
    """The replies to a set of held-out problems at one step, and their shares."""

    step: int
    items: tuple[Item, ...]

    def share(self, name: str) -> Share:
        """One of `SHARES`, or of another field of the items that is true or false."""
        field = SHARES.get(name, name)
        return Share(sum(getattr(item, field) for item in self.items), len(self.items))

    def metrics(self) -> dict[str, Any]:
        """As `holdout_metrics`."""
        return holdout_metrics([asdict(item) for item in self.items])


def holdout_metrics(items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The shares as hits and totals, and the mean reply length in tokens.

    Args:
        items: as a result's file has them.
    """
    rows = list(items)
    shares = {name: sum(bool(row[field]) for row in rows) for name, field in SHARES.items()}
    shares["no_answer"] = sum(not row["answered"] for row in rows)
    mean = round(sum(row["tokens"] for row in rows) / max(1, len(rows)), 2)
    counted = {name: {"hits": hits, "total": len(rows)} for name, hits in shares.items()}
    return {**counted, "mean_tokens": mean}


def save_result(path: Path, result: HoldoutResult) -> None:
    """Write a result with every reply."""
    items = [asdict(item) for item in result.items]
    write_sealed(path, {"step": result.step, "metrics": holdout_metrics(items), "items": items})


def read_result(path: Path) -> HoldoutResult:
    """Read what `save_result` wrote.

    Raises:
        UserError: it is not what was written.
    """
    stored = read_sealed(path)
    return HoldoutResult(stored["step"], tuple(Item(**item) for item in stored["items"]))
