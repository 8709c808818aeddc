"""One JSON text to one value, in bounded time, with what parsers disagree on refused.

Python's own reader takes `NaN`, makes `1e999` infinite and `1e-999` zero, keeps the last of two
equal keys and lets half a character through, which then breaks whoever prints it.  Numbers with a
point or an exponent are exact (`Decimal`), so that 0.1 and 0.10000000000000000001 differ.
"""

import json
import unicodedata
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from xmlgrpo_rewards.prose import one_line
from xmlgrpo_rewards.rows import HALF_CHARACTER, check_json

MAX_CHARS, MAX_DEPTH, MAX_VALUES = 8192, 32, 256
MAX_NUMBER_CHARS = 40
MAX_EXPONENT = 308  # of ten: what other readers of JSON hold
MAX_MARKS = 30  # as in the stream-safe text format of Unicode's annex 15
SHOWN_CHARS = 60


class NotJson(ValueError):  # noqa: N818 - what the text is
    """A text that is not one JSON value of the kind read here; says why."""


def read_json(text: str, most_chars: int = MAX_CHARS, most_values: int = MAX_VALUES) -> Any:
    """The value of a JSON text: None, bool, int, Decimal, str, list or dict.

    Raises:
        NotJson: it is not one JSON value, or is over a limit above; a key stands twice; a number is
            not finite, or so small that others read zero; a text holds NUL, half a character
            or a flood of combining marks.
    """
    if len(text) > most_chars:
        raise NotJson(f"over {most_chars:,} characters")
    try:
        check_json(text.encode(), most_values=most_values, most_depth=MAX_DEPTH)
        value = json.loads(
            text,
            parse_constant=_constant,
            parse_float=_decimal,
            parse_int=_integer,
            object_pairs_hook=_object,
        )
    except NotJson:
        raise
    except UnicodeEncodeError:
        raise NotJson("half a character, one of a pair without the other") from None
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from None
    if "\\u" in text or not text.isascii():
        for part in texts(value):
            _check_text(part)
    return value


def read_object(text: str) -> dict[str, Any]:
    """The same for a text that must be a JSON object."""
    value = read_json(text)
    if not isinstance(value, dict):
        raise NotJson(f"expected a JSON object, got {type(value).__name__}")
    return value


def write_json(value: Any, *, sort_keys: bool = False) -> str:
    """One line of JSON, as a model would write it; a Decimal becomes the nearest float."""
    return json.dumps(value, ensure_ascii=False, default=float, sort_keys=sort_keys)


def is_number(value: object) -> bool:
    """Whether a value is a JSON number; Python's True is none."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def texts(value: Any) -> Iterator[str]:
    """Every text in a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)


def _check_text(text: str) -> None:
    if "\0" in text or HALF_CHARACTER.search(text):
        raise NotJson("NUL or half a character in a text")
    marks = 0
    for character in text if not text.isascii() else "":
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > MAX_MARKS:  # normalizing more takes quadratic time
            raise NotJson(f"over {MAX_MARKS} combining marks in a row")


def _constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is no JSON number")


def _integer(digits: str) -> int:
    if len(digits) > MAX_NUMBER_CHARS:
        raise NotJson(f"a number of {len(digits):,} characters")
    return int(digits)


def _decimal(digits: str) -> Decimal:
    try:
        number = Decimal(digits) if len(digits) <= MAX_NUMBER_CHARS else None
    except InvalidOperation:  # an exponent beyond Decimal's own
        number = None
    if number is None or (number and abs(number.adjusted()) > MAX_EXPONENT):
        raise NotJson(f"the number {one_line(digits, SHOWN_CHARS)} is too long, large or small")
    return number or Decimal(0)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise NotJson(f"the key {one_line(repr(twice), SHOWN_CHARS)} stands twice")
    return found
