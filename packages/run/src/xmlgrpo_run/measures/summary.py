"""One metric over items, with its interval; and the same metric of two models."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from xmlgrpo_rewards.interval import Z_95, Share
from xmlgrpo_run.measures.paired import mean_difference, pair

COUNTS = frozenset({"reply_tokens"})
"""Metrics that count something: never a share, even where every count is 0 or 1."""
MOST_STEPS = 7
"""Problems of so many steps and more are one class of difficulty: there are few."""

Items = Sequence[Mapping[str, Any]]
"""What was asked, each with `scores` by metric and, where it is known, `steps` of its solution."""


def metrics_of(items: Items) -> dict[str, Any]:
    """The summary of every score that all items have."""
    names = list(items[0]["scores"]) if items else []
    return {
        name: summarize([item["scores"][name] for item in items], is_count=name in COUNTS)
        for name in names
        if all(name in item["scores"] for item in items)
    }


def summarize(values: Sequence[float], *, is_count: bool = False) -> dict[str, Any]:
    """A metric over items, with its 95 % interval.

    Right-or-wrong values become a share with Wilson's interval; others a mean with the normal one.
    """
    if not values:
        return {"mean": None, "n": 0}
    if not is_count and all(value in (0, 1) for value in values):
        share = Share(int(sum(values)), len(values))
        interval = {"mean": share.value, "low": share.low, "high": share.high}
        return {**interval, "hits": share.hits, "n": share.total}
    mean = fmean(values)
    half = Z_95 * stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0
    low, high = mean - half, mean + half
    if not is_count and all(0 <= value <= 1 for value in values):  # shares of several replies
        low, high = max(0.0, low), min(1.0, high)
    return {"mean": mean, "low": low, "high": high, "n": len(values)}


def by_steps(items: Items) -> dict[str, Any]:
    """The metrics of items of like difficulty: `1`, `2`, ... `7+` steps; empty where all are alike.

    GSM8K's own measure of difficulty (Cobbe et al. 2021, arXiv 2110.14168, figure 2).
    """
    return {name: metrics_of(some) for name, some in _classes(items).items()}


def _classes(items: Items) -> dict[str, Items]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    for item in items:
        found.setdefault(min(item.get("steps", 0), MOST_STEPS), []).append(item)
    if len(found.keys() - {0}) < 2:
        return {}
    names = {MOST_STEPS: f"{MOST_STEPS}+"}
    return {names.get(steps, str(steps)): found[steps] for steps in sorted(found) if steps}


def compare_items(first: Items, second: Items) -> dict[str, Any]:
    """Every metric that both have of the same items, each as `compare_metric` gives it."""
    before, after = metrics_of(first), metrics_of(second)
    return {
        name: compare_metric(
            [[item["scores"][name] for item in items] for items in (first, second)],
            before[name],
            after[name],
        )
        for name in before
        if name in after
    }


def compare_by_steps(first: Items, second: Items) -> dict[str, Any]:
    """`compare_items` of the items of like difficulty."""
    before, after = _classes(first), _classes(second)
    return {name: compare_items(before[name], after[name]) for name in before if name in after}


def compare_metric(
    scores: Sequence[Sequence[float]], first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, Any]:
    """One metric of two models: both summaries, the paired difference, and what goes with it.

    Args:
        scores: of the first and of the second model, item by item.
    """
    both: dict[str, Any] = {"first": first, "second": second}
    if "hits" in first and "hits" in second:
        table = pair(*([score == 1 for score in values] for values in scores))
        difference, p = asdict(table.difference), table.p_value
        return both | {"difference": difference, "p": p, "table": asdict(table)}
    return both | {"difference": asdict(mean_difference(*scores)), "p": None}
