"""SQL as words: enough to split statements, to read literal rows and to change a query."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

_TOKEN = re.compile(
    r"(?P<space>\s+|--[^\n]*|/\*.*?\*/)"
    r"|(?P<text>'(?:[^']|'')*')"
    r'|(?P<name>"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|[^\W\d]\w*)'
    r"|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<sign><=|>=|<>|!=|==|\|\||.)",
    re.DOTALL,
)


QUOTES = '"`[]'  # around a name


class Token(NamedTuple):
    """A word of SQL."""

    kind: str  # text, name, number or sign
    text: str  # as written
    start: int
    end: int
    depth: int  # of parentheses around it; the parentheses themselves count as outside

    @property
    def word(self) -> str:
        """In upper case, where it is not quoted; else as written."""
        return self.text.upper() if self.kind == "name" else self.text


def tokens(sql: str) -> list[Token]:
    """The words of `sql` without white space and comments."""
    found, depth = [], 0
    for match in _TOKEN.finditer(sql):
        if match.lastgroup == "space":
            continue
        text = match.group()
        depth -= text == ")"
        found.append(Token(match.lastgroup or "", text, *match.span(), depth))
        depth += text == "("
    return found


def statements(sql: str) -> Iterator[tuple[str, list[Token]]]:
    """Each statement as it is written, without its semicolon, and its words."""
    words: list[Token] = []
    for token in [*tokens(sql), Token("sign", ";", len(sql), len(sql), 0)]:
        if token.text != ";":
            words.append(token)
        elif words:
            yield sql[words[0].start : words[-1].end], words
            words = []


def has_top_order(words: Sequence[Token]) -> bool:
    """Whether a query says in which order its rows are: ORDER BY outside of any parentheses."""
    return any(
        token.depth == 0 and token.word == "ORDER" and after.word == "BY"
        for token, after in pairwise(words)
    )


def unquoted(token: Token) -> str:
    """What a text literal says."""
    return token.text[1:-1].replace("''", "'")
