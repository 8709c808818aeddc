"""Numbers on the card: each one is a link to the result file it was read from.

A number gets onto the card by one road only.  `ResultFile.figure` looks it up in a file that is
published beside the card and keeps the place (a JSON pointer, RFC 6901); the card's template
refuses to print anything else (`markdown`), and the finished text is read once more for numbers
that stand outside such a link (`numbers_without_source`).
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xmlgrpo_exporter.upload.texts import without_paths
from xmlgrpo_rewards.errors import UserError

NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,.]*(?:e[-+]?\d+)?(?![\w.])", re.IGNORECASE)

# What is not read as a statement: front matter, code (commands and names), links, comments.
_NOT_PROSE = (
    re.compile(r"\A---\n.*?\n---\n", re.DOTALL),
    re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE),
    re.compile(r"`[^`\n]*`"),
    re.compile(r"!?\[[^\[\]]*\]\([^()\s]*\)"),
)


class UnsourcedNumberError(Exception):
    """Something was to be printed on the card that names no file: a bug, not a user's mistake."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number as printed, with the published file and the place in it that it was read from."""

    text: str
    file: str
    pointer: str = ""

    def markdown(self) -> str:
        """A link: the number is its text, its source the target (RFC 6901, section 6)."""
        place = f"#{quote(self.pointer, safe='/~')}" if self.pointer else ""
        return f"[{self.text}]({quote(self.file)}{place})"


@dataclass(frozen=True, slots=True)
class Name:
    """What a thing is called: a model, a file, a device.  Printed as code, never as a number."""

    text: str

    def __post_init__(self) -> None:
        if NUMBER.fullmatch(self.text):
            raise UnsourcedNumberError(f"{self.text!r} is a number; print it as a Figure")

    def markdown(self) -> str:
        """The name in a code span, on one line, unable to end the span or a table cell."""
        return f"`{self.code.text}`"

    @property
    def code(self) -> "Code":
        """The name for a code block, on one line."""
        return Code(re.sub(r"\s+", " ", self.text).replace("`", "'").replace("|", "/").strip())


@dataclass(frozen=True, slots=True)
class Missing:
    """What nobody recorded, in words: the card says so instead of inventing it."""

    text: str = "not recorded"

    def markdown(self) -> str:
        """The words."""
        return f"*{self.text}*"


@dataclass(frozen=True, slots=True)
class Words:
    """Plain words, such as a row's label.  They hold no digit, so they cannot hold a result."""

    text: str

    def __post_init__(self) -> None:
        if re.search(r"\d", self.text):
            raise UnsourcedNumberError(f"{self.text!r} holds a digit; print it as Figure or Name")

    def markdown(self) -> str:
        """The words."""
        return self.text.replace("|", "/")


@dataclass(frozen=True, slots=True)
class Code:
    """Text for a code block: a command's arguments or a string literal."""

    text: str

    def markdown(self) -> str:
        """The text, unable to end the block."""
        return self.text.replace("```", '"""')


Printable = Figure | Name | Missing | Words | Code


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the heads of its columns, and its rows, each as long as `heads`."""

    heads: tuple[Printable, ...]
    rows: tuple[tuple[Printable, ...], ...]

    def markdown(self) -> str:
        """The table, one line a row."""
        lines = [self.heads, *self.rows]
        text = [f"| {' | '.join(markdown(cell) for cell in line)} |" for line in lines]
        return "\n".join([text[0], "|" + " --- |" * len(self.heads), *text[1:]])


def markdown(value: object) -> str:
    """How the card prints a value; the last step of every `{{ }}` in its template.

    Raises:
        UnsourcedNumberError: the value is none of the kinds that may be printed.
    """
    if isinstance(value, Figure | Name | Missing | Words | Code | Table):
        return value.markdown()
    raise UnsourcedNumberError(
        f"the card may print Figure, Name, Missing, Words, Code and Table, not {value!r}; numbers "
        "come from ResultFile.figure"
    )


def numbers_without_source(card: str) -> list[str]:
    """The numbers in a card's prose that are not the text of a link to a file."""
    for not_prose in _NOT_PROSE:
        card = not_prose.sub(" ", card)
    return NUMBER.findall(card)


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A result file of the run as it is published: every value, none of this machine's paths.

    Attributes:
        published: its path in the repository, e.g. `results/ladder.json`.
        content: the file, read.
    """

    published: str
    content: Mapping[str, Any]

    def at(self, pointer: str) -> Any:
        """The value at a JSON pointer; None where the file has nothing."""
        value: Any = self.content
        for token in pointer.split("/")[1:]:
            key = token.replace("~1", "/").replace("~0", "~")
            if isinstance(value, Mapping) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            else:
                return None
        return value

    def figure(self, pointer: str, show: Callable[[Any], str]) -> Figure | Missing:
        """The number at a JSON pointer, printed by `show`; Missing where the file has none.

        Raises:
            UserError: what stands there is not of the kind that `show` prints.
        """
        value = self.at(pointer)
        if value is None:
            return Missing()
        try:
            return Figure(show(value), self.published, pointer)
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            raise UserError(
                f"{self.published}: {value!r} at {pointer} is nothing that a command here writes; "
                "run the one that writes this file again"
            ) from None

    def name(self, *pointers: str) -> Name | Missing:
        """The first of the places that holds words; Missing when none does."""
        for pointer in pointers:
            value = self.at(pointer)
            if isinstance(value, str) and value.strip() and not NUMBER.fullmatch(value):
                return Name(value)
        return Missing()


def read_result(path: Path, published: str) -> ResultFile:
    """Read a result file of the run.

    Raises:
        UserError: it is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is no readable JSON ({error}); run the command that writes it again"
        ) from None
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: expected a JSON object, found {type(content).__name__}; run the command "
            "that writes it again"
        )
    return ResultFile(published, without_paths(content))


def escape_pointer(key: str) -> str:
    """A key as one step of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")
