"""What `xmlgrpo-eval` found on the test split, and each model beside the base on the same items."""

from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from xmlgrpo_evaluator.results.compare import compare_results
from xmlgrpo_evaluator.results.result import read_result
from xmlgrpo_viewer.compare.statistics import seeds_interval


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


def seeds_of(folder: Path, base: str) -> dict[str, Any]:
    """Of each kind of arm with several seeds: greedy accuracies, and their mean beside the base.

    The interval is a bootstrap over seeds and items, as `xmlgrpo-compare` makes it.
    """
    kinds: dict[str, dict[str, list[bool]]] = {}
    for path in sorted(folder.glob("*-k1.json")):
        name = path.stem.removesuffix("-k1")
        kind, _, seed = name.rpartition("-")
        if kind and seed.isdecimal():
            kinds.setdefault(kind, {})[name] = _right(path)
    own = folder / f"{base}-k1.json"
    found = {}
    for kind, seeds in kinds.items():
        if len(seeds) < 2 or not own.exists():
            continue
        shares = {name: fmean(right) for name, right in seeds.items()}
        difference = seeds_interval(list(seeds.values()), _right(own))
        found[kind] = {
            "seeds": shares,
            "mean": fmean(shares.values()),
            "lowest": min(shares.values()),
            "highest": max(shares.values()),
            "difference": asdict(difference),
        }
    return found


def _right(path: Path) -> list[bool]:
    [task] = read_result(path)["tasks"].values()
    return [item["scores"]["strict_accuracy"] == 1 for item in task["items"]]
