"""Values near a gold: none of them may be graded right."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from xmlgrpo_tasks.json_qa.leaves import Path

STEPS = (1, -1, 7, -7, 60, -60)  # to other numbers
BUMPS = 6  # characters of a text, from its end, that are tried


def other_values(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The whole value with one leaf another one of its type, and where; several for each leaf."""
    if isinstance(value, dict):
        for key, part in value.items():
            for place, other in other_values(part, (*path, key)):
                yield place, {**value, key: other}
    elif isinstance(value, list):
        for number, part in enumerate(value):
            for place, other in other_values(part, (*path, number)):
                yield place, [*value[:number], other, *value[number + 1 :]]
    elif isinstance(value, str):
        yield from ((path, other) for other in _other_texts(value))
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        yield from ((path, value + step) for step in STEPS)


def other_shapes(value: Any) -> Iterator[Any]:
    """The value with a part left out, doubled, null, of another type or one too many."""
    if isinstance(value, dict):
        yield {**value, "x" * (1 + max(map(len, value), default=0)): None}
        for key, part in value.items():
            yield {name: kept for name, kept in value.items() if name != key}
            for other in other_shapes(part):
                yield {**value, key: other}
    elif isinstance(value, list):
        yield [*value, value[-1] if value else None]
        if value:
            yield value[:-1]
        for place, part in enumerate(value):
            for other in other_shapes(part):
                yield [*value[:place], other, *value[place + 1 :]]
    elif isinstance(value, bool):
        yield from (not value, int(value), str(value).lower())
    elif value is None:
        yield from ("", 0, False, "null")
    else:
        yield from (None, [value])
        yield str(value) if not isinstance(value, str) else f"{value}, {value}"


def _other_texts(text: str) -> Iterator[str]:
    """The text with one letter or digit a later one, from its end; so that a form is kept."""
    places = [place for place, character in enumerate(text) if character.isalnum()][-BUMPS:]
    for place in reversed(places):
        for step in (1, 2):
            yield f"{text[:place]}{_later(text[place], step)}{text[place + 1 :]}"
    yield f"{text}x"


def _later(character: str, step: int) -> str:
    for row in ("0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
        if character in row:
            return row[(row.index(character) + step) % len(row)]
    return "xy"[step - 1]
