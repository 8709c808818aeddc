"""Values near a gold: none of them may be graded right."""

from collections.abc import Iterator
from typing import Any

from xmlgrpo_tasks.json_qa.leaves import Path


def other_values(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The whole value with one leaf another one of its type, and where."""
    if isinstance(value, dict):
        for key, part in value.items():
            for place, other in other_values(part, (*path, key)):
                yield place, {**value, key: other}
    elif isinstance(value, list):
        for number, part in enumerate(value):
            for place, other in other_values(part, (*path, number)):
                yield place, [*value[:number], other, *value[number + 1 :]]
    elif isinstance(value, bool):
        yield path, not value
    elif isinstance(value, str):
        yield path, _other_text(value)
    elif value is not None:
        yield path, value + 1


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
        yield from (int(value), str(value).lower())
    elif value is None:
        yield from ("", 0, False, "null")
    else:
        yield from (None, [value])
        yield str(value) if not isinstance(value, str) else f"{value}, {value}"


def _other_text(text: str) -> str:
    """The text with its last letter or digit the next one, so that a form is kept."""
    place = next((n for n in range(len(text) - 1, -1, -1) if text[n].isalnum()), None)
    if place is None:
        return f"{text}x"
    for row in ("0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
        if text[place] in row:
            later = row[(row.index(text[place]) + 1) % len(row)]
            return f"{text[:place]}{later}{text[place + 1 :]}"
    return f"{text[:place]}xy{text[place + 1 :]}"
