"""The same story with other numbers: GSM8K's rows told again, worked out again.

Every calculation of a GSM8K solution stands in a note, `<<48/2=24>>`.  A number of the question is
replaced wherever it stands, the notes are calculated again in order, and a result replaces the old
one from there on.  A row whose notes do not calculate, or do not end in its answer, cannot be
retold; nor can one whose new numbers would be negative, huge, or broken where they were whole.

What a retelling cannot know is which 7 is a number of the story and which one the days of a week,
so numbers that words may stand for are left alone.  Made for rows of the train split only.
"""

import operator
import random
import re
from fractions import Fraction
from typing import NamedTuple

from xmlgrpo_trainer.tiny.story import Row

NOTE = re.compile(r"<<([^<>=]*)=([^<>=]*)>>")
NUMBER = re.compile(
    r"(?<![\w.,/])\d{1,3}(?:,\d{3})+(?![\w/%])|(?<![\w.,/])\d+(?![\w/%]|[.,]\d|:\d)"
)
ANY_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?|\.\d+")
PART = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+|[-+*/()])")
# days, months, hours, minutes, cents and the like; and what "half" or "twice" stands for
COMMON = frozenset({0, 1, 2, 7, 10, 12, 24, 30, 52, 60, 100, 365, 1000})
WORDS = {
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "eight": 8,
    "nine": 9,
    "third": 3,
    "quarter": 4,
}
LARGEST = 100_000
TRIES = 12
PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
APPLY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


class Story(NamedTuple):
    """A row that can be told again.

    Attributes:
        question: as it is.
        solution: as it is, with its notes and without the last line.
        free: the numbers of the question that may change.
    """

    question: str
    solution: str
    free: tuple[Fraction, ...]


def read_story(row: Row) -> Story | None:
    """The row as a story, or None where it cannot be told again."""
    solution, _, gold = row["answer"].rpartition("\n#### ")
    notes = NOTE.findall(solution)
    if not notes:
        return None
    try:
        if any(calculate(expression) != _number(result) for expression, result in notes):
            return None
        if _number(notes[-1][1]) != _number(gold):
            return None
    except (ValueError, ZeroDivisionError):
        return None
    words = {
        WORDS[word] for word in re.findall(r"[a-z]+", row["question"].lower()) if word in WORDS
    }
    found = {_number(text) for text in NUMBER.findall(row["question"])}
    free = tuple(sorted(found - COMMON - words))
    return Story(row["question"], solution, free) if free else None


def retell(story: Story, rng: random.Random) -> Row | None:
    """The story with other numbers, or None when no try gave a sensible one."""
    for _ in range(TRIES):
        new = {old: _other(old, rng) for old in story.free}
        told = _told(story, new)
        if told is not None:
            return told
    return None


def calculate(expression: str) -> Fraction:
    """The value of a sum of numbers, `+ - * /` and parentheses, exactly.

    Raises:
        ValueError: it is something else.
        ZeroDivisionError: it divides by zero.
    """
    parts = _parts(expression)
    value, rest = _sum(parts, 0, 1)
    if rest != len(parts):
        raise ValueError(f"expected a sum, came {expression!r}")
    return value


def _parts(expression: str) -> list[str]:
    parts, place = [], 0
    expression = expression.strip()
    while place < len(expression):
        match = PART.match(expression, place)
        if match is None:
            raise ValueError(f"expected a sum, came {expression!r}")
        parts.append(match[1])
        place = match.end()
    return parts


def _sum(parts: list[str], place: int, least: int) -> tuple[Fraction, int]:
    """Precedence climbing from `place` over operators that bind at least this strongly."""
    if place >= len(parts):
        raise ValueError("expected a number, came the end")
    if parts[place] == "(":
        value, place = _sum(parts, place + 1, 1)
        if place >= len(parts) or parts[place] != ")":
            raise ValueError("expected a closing parenthesis")
        place += 1
    else:
        if parts[place] in "+-*/)":
            raise ValueError(f"expected a number, came {parts[place]!r}")
        value, place = Fraction(parts[place]), place + 1
    while place < len(parts) and PRECEDENCE.get(parts[place], 0) >= least:
        sign = parts[place]
        right, place = _sum(parts, place + 1, PRECEDENCE[sign] + 1)
        value = APPLY[sign](value, right)
    return value, place


def _told(story: Story, new: dict[Fraction, Fraction]) -> Row | None:
    question = NUMBER.sub(lambda match: _swapped(match[0], new), story.question)
    known = dict(new)
    pieces, place = [], 0
    for note in NOTE.finditer(story.solution):
        before = story.solution[place : note.start()]
        place = note.end()
        old = _number(note[2])
        if old not in known and any(_number(text) == old for text in ANY_NUMBER.findall(before)):
            return None  # the result is told before it is worked out
        pieces.append(_retold(before, known))
        expression = ANY_NUMBER.sub(lambda match: _swapped(match[0], known), note[1])
        try:
            result = calculate(expression)
        except (ValueError, ZeroDivisionError):
            return None
        is_broken = result.denominator != 1 and old.denominator == 1
        if not 0 < result < LARGEST or is_broken or 10**4 % result.denominator:
            return None
        if known.setdefault(old, result) != result:
            return None  # one number stands for two things
        pieces.append(f"<<{expression}={_text(result)}>>")
    pieces.append(_retold(story.solution[place:], known))
    final = known[_number(NOTE.findall(story.solution)[-1][1])]
    return {"question": question, "answer": f"{''.join(pieces)}\n#### {_text(final)}"}


def _retold(text: str, known: dict[Fraction, Fraction]) -> str:
    return ANY_NUMBER.sub(lambda match: _swapped(match[0], known), text)


def _swapped(text: str, known: dict[Fraction, Fraction]) -> str:
    try:
        old = _number(text)
    except ValueError:
        return text
    return _text(known[old]) if old in known else text


def _number(text: str) -> Fraction:
    return Fraction(text.replace(",", "").strip())


def _text(value: Fraction) -> str:
    """In digits; not more than four decimals, or `_told` would have refused it."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.4f}".rstrip("0")


def _other(old: Fraction, rng: random.Random) -> Fraction:
    """A number of like size: whole; round where the old one is round."""
    step = next((round_ for round_ in (100, 10, 5) if old % round_ == 0), 1)
    low, high = max(1, round(old / 2 / step)), max(3, round(old * 2 / step))
    return Fraction(step * rng.randint(low, high))
