"""What the rows of every task keep: fields that are whole texts, and no problem generated twice."""

from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

from xmlgrpo_rewards.rows import HALF_CHARACTER
from xmlgrpo_rewards.task import BadRow

MOST_REPEATS = 10_000  # draws in a row that gave nothing new
Row = dict[str, Any]
Seen = Set[tuple[Any, ...]]


def text_field(row: Mapping[str, Any], key: str, row_id: str) -> str:
    """The text of a field without the space around it.

    Raises:
        BadRow: the field is missing, of another type or empty, or holds half a character.
    """
    value = row.get(key, f"only {sorted(map(str, row))}")
    if key not in row or not isinstance(value, str) or not value.strip():
        raise BadRow(row_id, f"a text in {key!r}", value)
    return whole_text(value.strip(), row_id)


def solution_field(row: Mapping[str, Any], row_id: str) -> str:
    """The same of `solution`, which may be missing or empty."""
    value = row.get("solution", "")
    if not isinstance(value, str):
        raise BadRow(row_id, "a text in 'solution', or nothing", value)
    return whole_text(value.strip(), row_id)


def whole_text(text: str, row_id: str) -> str:
    """The text as it is; refused where it holds half a character."""
    if HALF_CHARACTER.search(text):
        raise BadRow(row_id, "no half of a surrogate pair", text)
    return text


def different_rows(
    count: int, keys: tuple[str, ...], draw: Callable[[Seen], Row | None]
) -> Iterator[Row]:
    """At most `count` rows, no two with the same values at `keys`; fewer where there are no more.

    Args:
        draw: makes a row, or None where the draw is in vain; it gets the values that are taken.
    """
    seen: set[tuple[Any, ...]] = set()
    repeats = 0
    while len(seen) < count and repeats < MOST_REPEATS:
        row = draw(seen)
        if row is None or (told := tuple(row[key] for key in keys)) in seen:
            repeats += 1
            continue
        seen.add(told)
        repeats = 0
        yield row
