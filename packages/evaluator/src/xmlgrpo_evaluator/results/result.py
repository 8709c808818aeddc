"""The result of one model: a JSON file with the numbers, every reply, and how it was done."""

from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.interval import Z_95, Share
from xmlgrpo_run.files import read_json

RESULT_FORMAT = 1
HEADLINE = "strict_accuracy"
"""The metric that is called accuracy: the right answer in the form that was asked for."""


COUNTS = frozenset({"reply_tokens"})
"""Metrics that count something: never a share, even where every count is 0 or 1."""


def summarize(values: Sequence[float], *, is_count: bool = False) -> dict[str, Any]:
    """A metric over items, with its 95 % interval.

    Right-or-wrong values become a share with Wilson's interval; others a mean with the normal one.
    """
    if not values:
        return {"mean": None, "n": 0}
    if not is_count and all(value in (0, 1) for value in values):
        share = Share(int(sum(values)), len(values))
        return {
            "mean": share.value,
            "low": share.low,
            "high": share.high,
            "hits": share.hits,
            "n": share.total,
        }
    mean, error = fmean(values), 0.0
    if len(values) > 1:
        error = stdev(values) / sqrt(len(values))
    half = Z_95 * error
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": len(values)}


def items_of(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry an item of lm-eval's samples, which have one an item and filter."""
    filters = {sample["filter"] for sample in samples}
    items: dict[Any, dict[str, Any]] = {}
    for sample in samples:
        doc = sample["doc"]
        entry = items.setdefault(
            sample["doc_id"],
            {
                "id": str(doc.get("id", sample["doc_id"])),
                "question": str(doc.get("question", "")),
                "gold": str(doc.get("gold", sample["target"])),
                "replies": [str(r) for replies in sample["resps"] for r in _flat(replies)],
                "scores": {},
            },
        )
        for name in sample["metrics"]:
            value = sample[name]
            if isinstance(value, (bool, int, float)):
                full = name if len(filters) == 1 else f"{name},{sample['filter']}"
                entry["scores"][full] = float(value)
    return [items[key] for key in sorted(items)]


def metrics_of(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The summary of every score that all items have."""
    names = list(items[0]["scores"]) if items else []
    return {
        name: summarize([item["scores"][name] for item in items], is_count=name in COUNTS)
        for name in names
        if all(name in item["scores"] for item in items)
    }


def headline(task: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The metric that stands for a task: ours if it has it, else its first one."""
    metrics = task["metrics"]
    if not metrics:
        return None
    name = HEADLINE if HEADLINE in metrics else next(iter(metrics))
    return name, metrics[name]


def read_result(path: Path) -> dict[str, Any]:
    """Read a result file.

    Raises:
        UserError: it is missing or not one of ours.
    """
    if not path.is_file():
        raise UserError(f"no result at {path}; make it with: make eval RUN=<run>")
    result = read_json(path)
    # every file of a run has a format; only a result has these
    is_result = {"label", "subject", "tasks"} <= result.keys()
    if not is_result or result.get("format") != RESULT_FORMAT:
        raise UserError(f"{path} is not an evaluation result of format {RESULT_FORMAT}")
    return result


def _flat(replies: Any) -> list[Any]:
    return list(replies) if isinstance(replies, (list, tuple)) else [replies]
