"""More databases for a row that comes with one: the same tables, other values.

On one database `SELECT 'Ann'` is as right as the query that finds Ann, and `>` as right as `>=`.
So rows lose a neighbour, numbers move and meet the numbers that the query names, texts trade
places and some rows are told twice.  The same row always gives the same databases.
"""

import random
import re
from collections.abc import Iterator, Sequence

from xmlgrpo_tasks.sql.inserts import Insert, Value
from xmlgrpo_tasks.sql.lexer import QUOTES, Token, unquoted

_DIGIT = re.compile(r"\d")
DATABASES = 3
KEPT = 0.4  # share of the cells that stay
NAMED = 0.4  # share of the other numbers that become one that the query names, or its neighbour
SMALLEST_TABLE = 6  # rows; a smaller one is filled up with changed copies


def derived(inserts: Sequence[Insert], query: Sequence[Token], seed: str) -> Iterator[str]:
    """`DATABASES` texts of INSERTs like those given."""
    named = [float(token.text) for token in query if token.kind == "number"]
    said = [unquoted(token) for token in query if token.kind == "text"]
    for number in range(DATABASES):
        rng = random.Random(f"{seed} {number}")  # noqa: S311 - no secret depends on it
        changed = [_changed(insert, named, said, rng) for insert in inserts]
        yield ";\n".join(insert.text() for insert in changed)


def _changed(
    insert: Insert, named: Sequence[float], said: Sequence[str], rng: random.Random
) -> Insert:
    rows = [list(row) for row in insert.rows]
    while len(rows) < SMALLEST_TABLE:
        rows.append(list(rng.choice(insert.rows)))
    if len(insert.rows) > 1:
        rows.pop(rng.randrange(len(insert.rows)))
    for place in range(len(rows[0])):
        column = [row[place] for row in insert.rows]
        if _numbers_the_rows(insert, place, column):
            for number, row in enumerate(rows, start=1):
                row[place] = number
            continue
        for row in rows:
            if rng.random() >= KEPT:
                row[place] = _another(row[place], column, named, said, rng)
    return insert.with_rows(rows)


def _numbers_the_rows(insert: Insert, place: int, column: Sequence[Value]) -> bool:
    """Whether a column is the table's key: whole numbers, none twice, named so or the first."""
    name = insert.columns[place].strip(QUOTES).lower() if insert.columns else ""
    return (
        (place == 0 or name == "id")
        and all(isinstance(value, int) for value in column)
        and len(set(column)) == len(column)
    )


def _another(
    value: Value,
    column: Sequence[Value],
    named: Sequence[float],
    said: Sequence[str],
    rng: random.Random,
) -> Value:
    if isinstance(value, str):
        shapes = {_shape(text) for text in column if isinstance(text, str)}
        return rng.choice([*column, *(text for text in said if _shape(text) in shapes)])
    if value is None:
        return rng.choice(column)
    near = [number for number in named if _is_near(number, column)]
    if near and rng.random() < NAMED:
        moved = rng.choice(near) + rng.choice((-1, 0, 0, 1))
    elif len(set(column)) < len(column):  # a category or a reference, not an amount
        return rng.choice(column)
    else:
        moved = value + max(1, abs(value) // 2) * rng.choice((-1, 1)) * rng.randint(1, 3) / 3
    return round(moved) if isinstance(value, int) else round(moved, 2)


def _shape(text: str) -> str:
    """Days look alike, and so do numbered codes; a text without digits is like itself alone."""
    return _DIGIT.sub("0", text)


def _is_near(number: float, column: Sequence[Value]) -> bool:
    """Whether a number of the query is of the size of this column's."""
    sizes = [abs(value) for value in column if isinstance(value, int | float)]
    return bool(sizes) and min(sizes) / 3 <= abs(number) <= max(sizes) * 3
