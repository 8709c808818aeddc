"""What `xmlgrpo-eval` found on the test split, and each model beside the base on the same items."""

from pathlib import Path
from typing import Any

from xmlgrpo_evaluator.results.compare import compare_results
from xmlgrpo_evaluator.results.result import read_result


def tested(folder: Path, base: str) -> dict[str, Any]:
    """Metrics by model and number of samples, with the paired differences from the base.

    Args:
        folder: of the results, `MODEL-kN.json`.
        base: the model that the others are compared with.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.json")):
        model, _, samples = path.stem.rpartition("-")
        result, beside = read_result(path), folder / f"{base}-{samples}.json"
        metrics = {name: task["metrics"] for name, task in result["tasks"].items()}
        told: dict[str, Any] = {"metrics": metrics, "prompts": result.get("prompts")}
        if model != base and beside.exists():
            compared = compare_results(read_result(beside), result)
            told["beside_base"] = {
                name: task["metrics"] for name, task in compared["tasks"].items()
            }
            told["cautions"] = compared["cautions"]
        found.setdefault(model, {})[samples] = told
    return found
