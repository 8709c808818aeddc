"""Sentences on a screen: a line ends between words, and never inside a figure.

A terminal cuts a long line wherever its last column is, through a word or a number.  `64 s`,
`left 0:00:43` and `85.0% [81.6%, 87.9%]` are read as one, so they stay on one line too.
A text that leaves this machine loses its paths (`without_paths`).
"""

import re
import unicodedata
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

# words, and the spaces inside a figure
UNBROKEN = re.compile(
    r"(?:^[ ]+)?"
    r"(?:[\[(][^\[\]()]{0,30}\d[^\[\]()]{0,30}[\])]"  # an interval, or a count
    r"|(?<=\d)%?[ ](?=[\w%\[(])"  # a number and what it counts
    r"|(?<=\bleft)[ ](?=\d)"
    r"|(?<=[a-z])[ ](?=\d[\d.]*%(?![ ]\[))"  # a share and its name; an interval is long enough
    r"|\S)+[ ]*"
)
NOTES = ("vocab_file", "is_local", "local_files_only", "name_or_path")  # transformers' own
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode's categories of what shows nothing itself
# letters, joiners and selectors that show nothing; emoji need those of U+FE00 on
FILLERS = "\u115f\u1160\u3164\uffa0\u034f\u17b4\u17b5\u180b\u180c\u180d\u180f\u2065"
MOST_MARKS = 10  # on one character; a flood of them takes no column and covers other lines
# line ends, tabs, the joiners, and the signs of their category that are seen
KEPT = "\n\t\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
WORD = re.compile(r"\s*\S+\s*")

NAME = r"""[^\s/\\'"`<>|*?,;(){}\[\]]+"""  # of a file, in a text
# two names at least: a lone `/answer` in a text is no path, and `f:\\mathbb{R}` is no drive
ROOTED = (
    rf"(?:(?i:file):/+(?:[A-Za-z]:/)?|[A-Za-z]:/(?!/)|~(?:[A-Za-z_][\w.-]*)?/+|(?:[\w.-]+/+)*?\.\./+"
    rf"|/+(?=[A-Za-z_.@][\w.@+~-]*/+{NAME})){NAME}(?:/+{NAME})*/*"
    rf"|(?:[A-Za-z]:\\+|\\{{2,4}}(?={NAME}\\+{NAME}\\)|~[\w.-]*\\+|(?:\.\.\\+)+)"
    rf"{NAME}(?:\\+{NAME})+"
)
IN_TEXT = re.compile(
    r"(?P<elsewhere>\b(?!(?i:file):)[A-Za-z][A-Za-z\d+.-]{1,20}://\S*)"
    rf"|(?P<quote>[\"'`])(?P<quoted>(?={ROOTED})[^\"'`\n]*[^\"'`\\\n])(?=\\*(?P=quote))"
    rf"|(?<![A-Za-z\d_/\\.<~)\]}}$%|])(?:{ROOTED})"
)
KEY = re.compile(r"^[\w.-]{1,64}=")  # of an override
# a drive, a host, a home
ELSEWHERE = re.compile(r"[A-Za-z]:[\\/](?!\w*\{)|\\\\[\w.-]+\\|~[\w.-]*[\\/]")


def line_ends(text: str, columns: int, *, begun: int = 0) -> list[int]:
    """Where to cut a paragraph so that its lines fit; an offset each, after a space.

    A word that is longer than a line, as a path may be, is left whole: cut, it could not be copied.

    Args:
        begun: columns of the first line that are taken already.
    """
    ends, used = [], begun
    for found in UNBROKEN.finditer(text):
        fits_a_line = width(found.group().rstrip()) <= columns
        for part in [found] if fits_a_line else WORD.finditer(text, found.start(), found.end()):
            if used and used + width(part.group().rstrip()) > columns:
                ends.append(part.start())
                used = 0
            used += width(part.group())
    return ends


def fitted(text: str, columns: int) -> str:
    """Paragraphs as lines of at most so many columns."""
    lines = []
    for paragraph in text.split("\n"):
        cuts = [0, *line_ends(paragraph, columns), len(paragraph)]
        lines += [paragraph[a:b].rstrip() for a, b in pairwise(cuts)]
    return "\n".join(lines)


def one_line(text: str, most: int) -> str:
    """A text of a model or a file for a terminal: one line, and `printable`.

    Args:
        most: columns; a wider text ends in an ellipsis, and where there is none, nothing is left.
    """
    visible = printable(" ".join(text.split()))
    if width(visible) <= most:
        return visible
    if most < 1:  # beside what stands in the line already
        return ""
    visible = visible[:most]  # what is cut off here could only be shown if it took no column
    while width(visible) >= most:
        visible = visible[:-1]
    return f"{visible}…"


def width(text: str) -> int:
    """Columns on a terminal: Chinese characters and most emoji take two."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def printable(text: str) -> str:
    """The text without what steers a terminal, turns its order round, or cannot be seen or written.

    The one filter for what models, files and the Hub say, before a terminal, a card or a page shows
    it: control characters, line ends that are none to a terminal, marks that show nothing (of the
    direction, zero width, tags), and halves of surrogate pairs.  The joiners stay, which scripts
    and emoji are written with.
    """
    if text.isascii() and text.isprintable():
        return text
    shown, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        is_unfit = marks > MOST_MARKS or _steers(character)
        shown.append("\N{REPLACEMENT CHARACTER}" if is_unfit else character)
    return "".join(shown)


def _steers(character: str) -> bool:
    if character in KEPT:
        return False
    is_hidden = unicodedata.category(character) in HIDDEN or character in FILLERS
    return is_hidden or "\U000e0000" <= character <= "\U000e0fff"  # tags and selectors


def without_paths(value: Any) -> Any:
    """A JSON value for other machines: a path that is absolute or leads out is its last name.

    A home folder names its owner, and a path of this machine means nothing elsewhere.  A path may
    be a whole text, or stand in one: after `=`, in quotes, in a sentence.
    """
    if isinstance(value, str):
        if _is_path(value.strip()):
            return _last_name(value.rstrip("\\/ \n"))
        return IN_TEXT.sub(_cut, value) if "/" in value or "\\" in value else value
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return value


def without_notes(tokenizer_config: Mapping[str, Any]) -> dict[str, Any]:
    """A `tokenizer_config.json` without what transformers notes of where it was read from."""
    return {key: value for key, value in tokenizer_config.items() if key not in NOTES}


def _is_path(text: str) -> bool:
    if "\n" in text:
        return False
    is_word = not re.search(r"\s", text)
    text = re.sub(r"^(?i:file):", "", KEY.sub("", text) if is_word else text)
    names = [name for name in re.split(r"[\\/]", text) if name]
    is_absolute = text.startswith("/") and len(names) > 1
    leads_out = is_word and ".." in names[:-1]
    return is_absolute or leads_out or ELSEWHERE.match(text) is not None


def _cut(found: re.Match[str]) -> str:
    if found["elsewhere"]:
        return found.group()
    path = found["quoted"] or found.group()
    return (found["quote"] or "") + _last_name(path.rstrip("/"))


def _last_name(path: str) -> str:
    return re.split(r"[\\/]", path)[-1]
