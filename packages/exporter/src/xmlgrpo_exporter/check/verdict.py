"""A verdict worked out again from its parts: what a gate found, and what it allows.

A record says `passed`, and that is what it is believed for least: it may be cut, edited by hand,
another file's, or of a version that had fewer gates.  What is published has every gate, each with
its numbers, and the numbers are within the limits of a file of that type.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

from xmlgrpo_exporter.quants import MERGE_LIMITS, limits_for
from xmlgrpo_rollout.stop_tokens import END_OF_TURN

Numbers = Mapping[str, Any]
CONTROL_TOKEN = 3  # llama_token_type
NO_NUMBERS = (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError)


def number(value: Any) -> float:
    """A number that can be compared; a ValueError where it is none, or NaN, or infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return value


def count(value: Any) -> int:
    """How many there are; a ValueError where it is no whole number from 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def gguf_fault(entry: Any, quant: str, size: int | None = None) -> str | None:
    """What is wrong with the record of a GGUF file; None where every gate let it through.

    Args:
        quant: what the file's own header says it is.
        size: of the file in bytes; None where it is not here.
    """
    gates = _entry(entry, "gates")
    if not isinstance(gates, Mapping) or _entry(entry, "passed") is not True:
        return "it did not pass"
    if missing := sorted(RULES.keys() - gates.keys()):
        return f"the gate {missing[0]!r} is missing"
    if unknown := sorted(gates.keys() - RULES.keys()):
        return f"there is no gate {str(unknown[0])[:40]!r}"
    faults = (_fault(name, gates[name], rule) for name, rule in RULES.items())
    try:
        return next(filter(None, faults), None) or _stranger(entry, gates, quant, size)
    except NO_NUMBERS:
        return "its numbers are not those of a check"


def _stranger(entry: Numbers, gates: Numbers, quant: str, size: int | None) -> str | None:
    """Why the numbers are not of this file, or not of one check."""
    if entry["quant"] != quant:
        return f"it is of a file of type {entry['quant']!r}, and this one is {quant!r}"
    sizes = {entry["bytes"], gates["file"]["found"]["bytes"], *([] if size is None else [size])}
    if len(sizes) > 1:
        return "it is of a file of another size"
    routes = {"raw"} if "in_file" in gates["template"]["found"] else {"chat", "raw"}
    if gates["one_bos"]["found"].keys() != routes:
        return f"its prompts were not asked in each way: {' and '.join(sorted(routes))}"
    prompts = count(gates["tokens"]["found"]["prompts"])
    asked = {sum(map(count, route.values())) for route in gates["one_bos"]["found"].values()}
    if asked | {gates["template"]["found"].get("prompts", prompts)} != {prompts}:
        return "its gates looked at different numbers of prompts"
    share = {"greedy_identical": gates["greedy"]["limit"]["share"]}
    if gates["distance"]["limit"] | share != asdict(limits_for(quant, entry.get("limits") or {})):
        return f"its limits are not those of {quant}"
    return None


def merge_fault(record: Any) -> str | None:
    """What is wrong with a merge's comparison; None where it let the merged model through."""
    parity, dtype = _entry(record, "parity"), _entry(record, "dtype")
    if fault := _fault("parity", parity, _parity):
        return fault
    if dtype not in MERGE_LIMITS or parity["limit"] != asdict(MERGE_LIMITS[dtype]):
        return f"its limits are not those of a merge to {dtype}"
    return None


def _fault(name: str, gate: Any, rule: Callable[[Numbers, Numbers], bool]) -> str | None:
    if _entry(gate, "passed") is not True:
        return f"the gate {name!r} did not pass"
    try:
        holds = rule(gate["found"], gate["limit"])
    except NO_NUMBERS:
        return f"the numbers of the gate {name!r} are missing or none"
    return None if holds else f"the numbers of the gate {name!r} are not within its limits"


def _entry(record: Any, key: str) -> Any:
    return record.get(key) if isinstance(record, Mapping) else None


def _file(found: Numbers, _limit: Numbers) -> bool:
    return count(found["bytes"]) > 0 and count(found["tensors"]) > 0


def _tokens(found: Numbers, limit: Numbers) -> bool:
    is_same = count(found["mismatches"]) == 0 and limit == {"mismatches": 0}
    return is_same and count(found["prompts"]) > 0


def _one_bos(found: Numbers, limit: Numbers) -> bool:
    expected = {str(count(limit["bos"]))}
    return limit["bos"] in (0, 1) and all(route.keys() == expected for route in found.values())


def _template(found: Numbers, limit: Numbers) -> bool:
    if "in_file" in found:  # a model that continues plain text
        return found["in_file"] is False and limit == {"in_file": False}
    is_same = found["same_text"] is True and count(found["differing"]) == 0
    return is_same and limit == {"same_text": True, "differing": 0}


def _stop(found: Numbers, limit: Numbers) -> bool:
    ends, turn = found["ends_generation"], found.get(END_OF_TURN)
    is_turn = turn is None or (turn["text"] == END_OF_TURN and turn["type"] == CONTROL_TOKEN)
    is_end = bool(ends) and all(does is True for does in ends.values())
    return is_end and is_turn and limit == {"all_end_generation": True}


def _answers(found: Numbers, limit: Numbers) -> bool:
    return 0 <= number(found["seconds"]) <= number(limit["seconds"])


def _distance(found: Numbers, limit: Numbers) -> bool:
    is_near = 0 <= number(found["mean_kl"]) <= number(limit["mean_kl"])
    is_same = number(limit["top1"]) <= number(found["top1"]) <= 1
    return is_near and is_same and count(found["positions"]) > 0


def _share(same: Any, prompts: Any, share: Any, limit: Any) -> bool:
    counted = count(same) / count(prompts)
    return number(share) == counted and number(limit) <= counted <= 1


def _greedy(found: Numbers, limit: Numbers) -> bool:
    return _share(found["identical"], found["prompts"], found["share"], limit["share"])


def _parity(found: Numbers, limit: Numbers) -> bool:
    shares = found["identical_replies"], found["prompts"], found["greedy_identical"]
    return _distance(found, limit) and _share(*shares, limit["greedy_identical"])


RULES: Mapping[str, Callable[[Numbers, Numbers], bool]] = {
    "file": _file,
    "tokens": _tokens,
    "one_bos": _one_bos,
    "template": _template,
    "stop": _stop,
    "answers": _answers,
    "distance": _distance,
    "greedy": _greedy,
}
"""Every gate of a GGUF file, with what its numbers have to be."""
