"""A JSON value as the multiset of its leaves: equal values have equal leaves, and a share is right.

A leaf is a path and what stands there, in a form that is equal where the task calls it equal.  How
that is, the row's `compare` says by JSON pointer, `*` for any place in an array:

| mode        | equal                                                                       |
|-------------|-----------------------------------------------------------------------------|
| `exact`     | the same JSON type and value; 1, 1.0, true and "1" are four; text in NFC    |
| `number`    | the same number: 1, 1.0 and 1e0 are one                                      |
| `date`      | the same day or moment: ISO 8601, or a day in words such as `18 May 2026`    |
| `text-fold` | the same text but for case, width and spaces                                |
| `set`       | an array without its order; what stands in it twice must stand there twice  |

Everywhere else order counts in arrays, and never in objects.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

from xmlgrpo_tasks.json_qa.text import is_number

MODES = ("exact", "number", "date", "text-fold", "set")
MAX_DATE_CHARS = 40

Path = tuple[str | int, ...]  # keys, and places in arrays
Modes = Mapping[str, str]  # JSON pointer -> mode
Leaves = Counter[tuple[Path, Hashable]]

MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_MONTHS = {name[:length]: n for n, name in enumerate(MONTHS, 1) for length in (3, 4, 9)}
_DAY_FIRST = re.compile(
    r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?(?: of)? (?P<month>[a-z]+)\.?,? (?P<year>[0-9]{4})"
)
_MONTH_FIRST = re.compile(
    r"(?P<month>[a-z]+)\.? (?P<day>[0-9]{1,2})(?:st|nd|rd|th)?,? (?P<year>[0-9]{4})"
)


def leaves(value: Any, modes: Modes) -> Leaves:
    """The leaves of a value; an empty array or object is one too."""
    return Counter(_leaves(value, modes, ()))


def shared(found: Leaves, gold: Leaves) -> float:
    """How much two values have in common, 0 to 1: the harmonic mean of precision and recall."""
    return 2 * (found & gold).total() / (found.total() + gold.total())


def mapped(
    value: Any,
    leaf: Callable[[Any], Any] = lambda found: found,
    parts: Callable[[list[Any]], list[Any]] = lambda found: found,
) -> Any:
    """The value with each leaf, or each list, changed."""
    if isinstance(value, dict):
        return {key: mapped(part, leaf, parts) for key, part in value.items()}
    if isinstance(value, list):
        return parts([mapped(part, leaf, parts) for part in value])
    return leaf(value)


def mode_at(path: Path, modes: Modes) -> str:
    """How what stands at `path` is compared; the exact pointer goes before one with `*`."""
    if not modes:
        return "exact"
    starred = tuple("*" if isinstance(step, int) else step for step in path)
    return modes.get(pointer(path)) or modes.get(pointer(starred)) or "exact"


def pointer(path: Path) -> str:
    """The JSON pointer (RFC 6901) of a path."""
    return "".join(f"/{escaped(str(step))}" for step in path)


def escaped(step: str) -> str:
    """A key as a step of a JSON pointer."""
    return step.replace("~", "~0").replace("/", "~1")


def _leaves(value: Any, modes: Modes, path: Path) -> Iterator[tuple[Path, Hashable]]:
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _leaves(part, modes, (*path, key))
    elif isinstance(value, list) and value:
        is_set = mode_at(path, modes) == "set"
        for place, part in enumerate(value):
            if is_set:  # an element is one leaf, whatever is in it
                inside = Counter(_leaves(part, modes, (*path, "*")))
                yield (*path, "*"), frozenset(inside.items())
            else:
                yield from _leaves(part, modes, (*path, place))
    else:
        yield path, _comparable(value, mode_at(path, modes))


def _comparable(value: Any, mode: str) -> Hashable:
    kind = type(value).__name__
    if isinstance(value, dict | list):
        return (kind,)
    if isinstance(value, str):
        moment = read_moment(value) if mode == "date" else None
        if moment is not None:
            return type(moment).__name__, moment
        return kind, folded(value) if mode == "text-fold" else unicodedata.normalize("NFC", value)
    if mode == "number" and is_number(value):
        return "number", value
    return kind, value


def folded(text: str) -> str:
    """A text without its case, width and spacing."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def read_moment(text: str) -> date | datetime | None:
    """The day or the moment that a text says, None where it is neither or could be two."""
    text = text.strip()
    if len(text) > MAX_DATE_CHARS or not text.isascii():
        return None
    words = " ".join(text.lower().split())
    try:
        if found := _DAY_FIRST.fullmatch(words) or _MONTH_FIRST.fullmatch(words):
            return date(int(found["year"]), _MONTHS.get(found["month"], 0), int(found["day"]))
        return datetime.fromisoformat(text) if ":" in text else date.fromisoformat(text)
    except ValueError:
        return None
