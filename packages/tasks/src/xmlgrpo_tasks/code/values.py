"""Python values as JSON and back, and when two of them are the same.

A worker loads this file by itself: the standard library only.  JSON values stand for themselves;
what JSON does not have is an object with one key: `{"$tuple": [1, 2]}`, `{"$set": [1]}`, and
`{"$dict": [[1, "a"]]}` for a dict whose keys are not all plain texts.
"""

import json
import math
from typing import Any

MOST_TEXT = 1 << 18
MOST_DEPTH = 40
MOST_BITS = 13_000  # under Python's own limit of 4,300 digits
MOST_KEYS = 500  # of a set or a $dict: numbers can be chosen so that all fall into one bucket
RELATIVE, ABSOLUTE = 1e-6, 1e-9


class NotPlain(Exception):  # noqa: N818 - a finding, not a fault
    """A value that is not made of plain Python values; the message says what it is."""


def pack(value: Any, depth: int = MOST_DEPTH) -> Any:
    """Write a value as JSON holds it.

    Raises:
        NotPlain: it holds something else than None, bool, int, float, str, list, tuple, set, dict;
            a number that is not finite or too long; or it is too deep.
    """
    if not depth:
        raise NotPlain("something too deep")
    kind, under = type(value), depth - 1
    if _is_plain(value):
        return value
    if kind is list:
        return [pack(item, under) for item in value]
    if isinstance(value, tuple):  # named ones, too
        return {"$tuple": [pack(item, under) for item in value]}
    if kind is set or kind is frozenset:
        return {"$set": [pack(item, under) for item in value]}
    if isinstance(value, dict):  # Counter and the like are equal to their dict
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: pack(item, under) for key, item in value.items()}
        return {"$dict": [[pack(key, under), pack(item, under)] for key, item in value.items()]}
    raise NotPlain(f"a {kind.__name__}" if kind not in (int, float) else "a number out of range")


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is int:
        return bool(value.bit_length() <= MOST_BITS)
    if kind is float:
        return math.isfinite(value)
    return value is None or kind in (bool, str)


def unpack(value: Any) -> Any:
    """Read what `pack` wrote, or what a person wrote in the same way.

    Raises:
        ValueError: a key that begins with `$` is none of ours.
        TypeError: something that cannot be in a set, or be a key.
    """
    if isinstance(value, list):
        return [unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith("$") for key in value):
        return {key: unpack(item) for key, item in value.items()}
    match value:
        case {"$tuple": list(items), **rest} if not rest:
            return tuple(unpack(item) for item in items)
        case {"$set": list(items), **rest} if not rest and len(items) <= MOST_KEYS:
            return {unpack(item) for item in items}
        case {"$dict": list(items), **rest} if not rest and len(items) <= MOST_KEYS:
            return {unpack(key): unpack(item) for key, item in items}
    raise ValueError(
        f"expected $tuple, $set or $dict with a list of at most {MOST_KEYS:,} items, got the keys "
        f"{sorted(value)}"
    )


def read(text: str) -> Any:
    """Read the JSON text of a packed value that something foreign wrote.

    Raises:
        ValueError: it is no such text, too long or too deep, or holds a number that is not finite.
    """
    if len(text) > MOST_TEXT:
        raise ValueError("too long")
    try:
        return unpack(json.loads(text, parse_constant=_refuse, parse_float=_finite))
    except RecursionError:
        raise ValueError("too deep") from None
    except TypeError as error:
        raise ValueError(str(error)) from None


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def same(expected: Any, got: Any) -> bool:
    """Whether a result is the expected one, exactly by type, but for two things.

    A tuple is the list of its items.  Where a float is expected, a number within a millionth of it
    will do, whole or not.  Else 1 is not 1.0, and neither is True.
    """
    if type(expected) is float:
        return type(got) in (int, float) and _close(expected, got)
    if isinstance(expected, list | tuple):
        alike = isinstance(got, list | tuple) and len(expected) == len(got)
        return alike and all(map(same, expected, got))
    if type(expected) is not type(got):
        return False
    if isinstance(expected, dict | set):
        return len(expected) == len(got) and _same_keys(expected, got)
    return bool(expected == got)


def _same_keys(expected: Any, got: Any) -> bool:
    found = {key: key for key in got}  # 1 finds True there: what is found is compared, too
    return all(
        key in found
        and same(key, found[key])
        and (isinstance(expected, set) or same(expected[key], got[key]))
        for key in expected
    )


def _close(expected: float, got: float) -> bool:
    try:
        return math.isclose(expected, got, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    except OverflowError:  # a whole number that no float can hold
        return False
