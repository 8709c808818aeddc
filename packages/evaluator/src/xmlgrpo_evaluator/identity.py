"""When two evaluations are the same: one model, asked the same in the same way.

An evaluation's identity is an object of JSON values (`settings.Evaluation.identity`).  It stands in
its result and in its journal, as `subject`, and neither is taken for another evaluation's.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any


def differences(
    there: Mapping[str, Any], identity: Mapping[str, Any], engines: Collection[str]
) -> list[str]:
    """The names of what is not the same in two evaluations.

    A model is its files, wherever they lie, and its commit on the Hub: a run that was moved keeps
    its results.  Where neither is known, nothing says that the weights are the same.  Of
    engines it counts which ones answered, not which was asked for; `auto` takes any.

    Args:
        engines: those that answered what is in the file.
    """

    def is_same(key: str) -> bool:
        got, expected = there.get(key), identity[key]
        if key == "model":
            told = [expected.get("content"), expected.get("revision")]
            if not got or not any(told):
                return False
            return [got.get("content"), got.get("revision")] == told
        if key == "engine":
            return expected == "auto" or set(engines) <= {expected}
        return bool(got == expected)

    return [in_words(key, there, identity) for key in identity if not is_same(key)]


def in_words(key: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What differs, as a refusal or a caution calls it: the option's name, or what it means."""
    if key != "format_version":
        return key
    return f"version of the reply form, {there.get(key)} and {here.get(key)}, which grade otherwise"


def plain(value: Any) -> Any:
    """JSON values only: lm-eval's records hold functions, dtypes and NaN."""
    text = json.dumps(value, default=lambda v: str(getattr(v, "__name__", v)), allow_nan=True)
    return json.loads(text, parse_constant=lambda _constant: None)
