"""The result of one model: a JSON file with the numbers, every reply, and how it was done."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xmlgrpo_evaluator.identity import differences
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.grading import example_of
from xmlgrpo_run.files import read_sealed

RESULT_FORMAT = 1
MAIN_METRIC = "strict_accuracy"
"""The metric that is called accuracy: the right answer in the form that was asked for."""


def read_result(path: Path, identity: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read a result file.

    Args:
        identity: of the evaluation that it must be the result of; None takes any.

    Raises:
        UserError: it is missing, not one of ours, or of another model, settings or items.
    """
    if not os.path.lexists(path):
        raise UserError(f"no result at {path}; make it with: make eval RUN=...")
    result = read_sealed(path)
    # every file of a run has a format; only a result has these
    is_result = {"label", "subject", "tasks"} <= result.keys()
    if not is_result or result.get("format") != RESULT_FORMAT:
        raise UserError(f"{path} is not an evaluation result of format {RESULT_FORMAT}")
    differing = identity and differences(result["subject"], identity, engines_of(result))
    if differing:
        raise UserError(
            f"{path} is the result of another evaluation (another {', '.join(differing)}); delete "
            "it, or have this one written elsewhere (--model with --out)"
        )
    return result


def engines_of(result: Mapping[str, Any]) -> set[str]:
    """What answered, of an HF model's result; empty for other backends and without a reply."""
    return set((result.get("engines") or {}).get("answered", ()))


def items_of(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The items of lm-eval's samples, which are one per item and filter."""
    filters = {sample["filter"] for sample in samples}
    items: dict[Any, dict[str, Any]] = {}
    for sample in samples:
        doc = sample["doc"]
        steps = example_of(doc).steps if "judge" in doc else 0
        entry = items.setdefault(
            sample["doc_id"],
            {
                "id": str(doc.get("id", sample["doc_id"])),
                "question": str(doc.get("question", "")),
                "gold": str(doc.get("gold", sample["target"])),
                **({"steps": steps} if steps else {}),
                "replies": [
                    str(reply)
                    for replies in sample["resps"]
                    for reply in (replies if isinstance(replies, (list, tuple)) else [replies])
                ],
                "scores": {},
            },
        )
        for name in sample["metrics"]:
            value = sample[name]
            if isinstance(value, (bool, int, float)):
                full = name if len(filters) == 1 else f"{name},{sample['filter']}"
                entry["scores"][full] = float(value)
    return [items[key] for key in sorted(items)]


def main_metric(task: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The metric that stands for a task: ours if it has it, else its first one."""
    metrics = task["metrics"]
    if not metrics:
        return None
    name = MAIN_METRIC if MAIN_METRIC in metrics else next(iter(metrics))
    return name, metrics[name]
