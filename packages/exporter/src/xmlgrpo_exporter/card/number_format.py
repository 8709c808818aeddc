"""How the card prints a value of a result file: shares with their interval, sizes, settings."""

import json
from collections.abc import Mapping
from typing import Any

from xmlgrpo_rewards.interval import Share


def share(value: Mapping[str, Any]) -> str:
    """`{"hits": 807, "total": 1319}` as `61.2% (58.5 to 63.8) of 1,319`."""
    result = Share(value["hits"], value["total"])
    interval = f"{100 * result.low:.1f} to {100 * result.high:.1f}"
    return f"{result.value:.1%} ({interval}) of {result.total:,}"


def summary(value: Mapping[str, Any]) -> str:
    """An evaluation's metric: `61.2% (58.5 to 63.8) of 1,319`, or `118.5 (110.2 to 120.1)`."""
    if "hits" in value:
        return share({"hits": value["hits"], "total": value["n"]})
    return f"{value['mean']:.4g} ({value['low']:.4g} to {value['high']:.4g})"


def change(value: Mapping[str, Any]) -> str:
    """A difference of means with its interval: `-21.0 (-26.2 to -15.8)`."""
    return f"{value['value']:+.4g} ({value['low']:+.4g} to {value['high']:+.4g})"


def verdict(value: bool) -> str:  # noqa: FBT001  it is the value to print, not a switch
    """A gate's outcome: `passed` or `failed`."""
    return "passed" if value else "failed"


def p_value(value: float) -> str:
    """0.0312 as `0.031`, 3e-9 as `3.0e-09`."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def difference(value: Mapping[str, Any]) -> str:
    """`{"value": 0.54, "low": 0.48, "high": 0.6}` as `+54.0 (+48.0 to +60.0) points`."""
    points, low, high = (100 * value[key] for key in ("value", "low", "high"))
    return f"{points:+.1f} ({low:+.1f} to {high:+.1f}) points"


def count(value: float) -> str:
    """1319 as `1,319`."""
    return f"{value:,}"


def plain(value: float) -> str:
    """A setting as it was written: `0.04`, `5e-06`, `true`."""
    return json.dumps(value) if isinstance(value, bool) else f"{value:g}"


def size(n_bytes: int) -> str:
    """2,164,260 bytes as `2.2 MB`: decimal units, as the Hub shows them."""
    amount = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
