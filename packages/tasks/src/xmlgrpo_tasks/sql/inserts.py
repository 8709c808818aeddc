"""INSERTs of literals, read as values."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from xmlgrpo_tasks.sql.lexer import Token, statements, unquoted

Value = int | float | str | None
NAMED_VALUES: dict[str, Value] = {"NULL": None, "TRUE": 1, "FALSE": 0}
LARGEST_INTEGER = 2**63 - 1
HEADS = (["INSERT", "INTO"], ["INSERT", "OR", "IGNORE", "INTO"])
_VALUE = r"(?:[+-]?0|t|k)"
_ROW = rf"\({_VALUE}(?:,{_VALUE})*\)"
# of what follows INTO, a letter a word: n(ame), V(ALUES), 0 for a number, t(ext), k(nown value)
_SHAPE = re.compile(rf"n(?:\(n(?:,n)*\))?V{_ROW}(?:,{_ROW})*")


class NotLiteral(ValueError):  # noqa: N818 - what the text is
    """A statement that is not an INSERT of literals; the text shows where."""


@dataclass(frozen=True, slots=True)
class Insert:
    """Rows for one table."""

    table: str  # as written, with its quotes
    columns: tuple[str, ...]  # as written; empty: all of the table, in its order
    rows: list[list[Value]]
    or_ignore: bool = False  # rows that break a constraint are left out

    def statement(self) -> str:
        """The INSERT of one row, a question mark a value."""
        return f"{self._head()} VALUES ({', '.join('?' * len(self.rows[0]))})"

    def text(self) -> str:
        """The INSERT of all its rows, as `parse_inserts` reads it."""
        rows = (f"({', '.join(map(literal, row))})" for row in self.rows)
        return f"{self._head()} VALUES {', '.join(rows)}"

    def with_rows(self, rows: list[list[Value]]) -> "Insert":
        """The same INSERT of other rows, of which some may break a constraint."""
        return replace(self, rows=rows, or_ignore=True)

    def _head(self) -> str:
        columns = f" ({', '.join(self.columns)})" if self.columns else ""
        return f"{' '.join(HEADS[self.or_ignore])} {self.table}{columns}"


def parse_inserts(text: str) -> list[Insert]:
    """Read statements of the form `INSERT [OR IGNORE] INTO t [(a, b)] VALUES (1, 'x'), ...`.

    Raises:
        NotLiteral: a statement is another one, a value is not a literal, or rows differ in length.
    """
    return [_insert(statement, words) for statement, words in statements(text)]


def _insert(statement: str, words: Sequence[Token]) -> Insert:
    head = next((h for h in HEADS if [word.word for word in words[: len(h)]] == h), None)
    rest = words[len(head) :] if head else []
    shape = "".join(map(_letter, rest))
    if not _SHAPE.fullmatch(shape):
        raise NotLiteral(statement)
    at = shape.index("V")
    columns = tuple(token.text for token in rest[1:at] if token.kind == "name")
    rows: list[list[Value]] = []
    sign = ""
    for token in rest[at + 1 :]:
        if token.text == "(":
            rows.append([])
        elif token.kind != "sign":
            rows[-1].append(_value(token, sign))
        sign = token.text
    if {len(row) for row in rows} != {len(columns or rows[0])}:
        raise NotLiteral(f"rows of different lengths in {statement}")
    return Insert(rest[0].text, columns, rows, or_ignore=head == HEADS[True])


def _letter(token: Token) -> str:
    if token.kind == "name":
        return "V" if token.word == "VALUES" else "k" if token.word in NAMED_VALUES else "n"
    return {"number": "0", "text": "t"}.get(token.kind, token.text[0])


def _value(token: Token, sign: str) -> Value:
    if token.kind == "text":
        return unquoted(token)
    if token.kind == "name":
        return NAMED_VALUES[token.word]
    factor = -1 if sign == "-" else 1
    if token.text.isdecimal() and len(token.text) < 20 and int(token.text) <= LARGEST_INTEGER:
        return factor * int(token.text)
    number = factor * float(token.text)
    if not math.isfinite(number):
        raise NotLiteral(token.text)
    return number


def literal(value: Value) -> str:
    """A value as SQL writes it."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "NULL" if value is None else repr(value)
