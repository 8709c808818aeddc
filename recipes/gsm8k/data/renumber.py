"""The same story with other numbers: GSM8K's rows told again, worked out again.

Every calculation of a GSM8K solution stands in a note, `<<48/2=24>>`.  A number of the question is
replaced wherever it stands, the notes are calculated again in order, and a result replaces the old
one from there on.  A row whose notes do not calculate, or do not end in its answer, cannot be
retold; nor can one whose new numbers would be negative, huge, or broken where they were whole.
Some results stand in the text without a note, and nothing says what they would be now: a row with a
number that neither the question nor a note explains is refused, and so is a retelling in which a
written sum does not hold.

What a retelling cannot know is which 7 is a number of the story and which one the days of a week,
so numbers that words may stand for are left alone.  Made for rows of the train split only.
"""

import random
import re
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from xmlgrpo_run.measures.sums import calculate, written_sums
from xmlgrpo_trainer.tiny.problems import Row

NOTE = re.compile(r"<<([^<>=]*)=([^<>=]*)>>")
NUMBER = re.compile(
    r"(?<![\w.,/])\d{1,3}(?:,\d{3})+(?![\w/%])|(?<![\w.,/])\d+(?![\w/%]|[.,]\d|:\d)"
)
ANY_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?|\.\d+")
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


class Story(NamedTuple):
    """A row that can be told again.

    Attributes:
        question: as it is.
        solution: as it is, with its notes and without the last line.
        free: the numbers of the question that may change.
        fixed: numbers that stay: the question's others, and those that its words may stand for.
    """

    question: str
    solution: str
    free: tuple[Fraction, ...]
    fixed: frozenset[Fraction | int]


def read_story(row: Row) -> Story | None:
    """The row as a story, or None where it cannot be told again."""
    solution, _, gold = row["answer"].rpartition("\n#### ")
    notes = NOTE.findall(solution)
    if not notes:
        return None
    try:
        holds = all(calculate(expression) == _number(result) for expression, result in notes)
        if not holds or _number(notes[-1][1]) != _number(gold):
            return None
    except (ValueError, ZeroDivisionError):
        return None
    words = {
        WORDS[word] for word in re.findall(r"[a-z]+", row["question"].lower()) if word in WORDS
    }
    found = {_number(text) for text in NUMBER.findall(row["question"])}
    staying = _numbers(NUMBER.sub("", row["question"]))  # such as the 20 of `20 men, 20% of them`
    free = tuple(sorted(found - COMMON - words - staying))
    if not free or not _hold(solution) or _unexplained(row["question"], solution, words):
        return None
    asked = _numbers(row["question"])
    return Story(row["question"], solution, free, frozenset(asked - set(free) | words))


def _unexplained(question: str, solution: str, words: Iterable[int]) -> bool:
    """Whether the solution names a number before a note, or the question, has given it."""
    asked = _numbers(question)
    known = asked | COMMON | set(words) | {value / 100 for value in asked}
    place = 0
    for note in NOTE.finditer(solution):
        if not _numbers(solution[place : note.start()] + note[1]) <= known:
            return True
        known.add(_number(note[2]))
        place = note.end()
    return not _numbers(solution[place:]) <= known


def _hold(solution: str) -> bool:
    """Whether every written sum holds that can be read."""
    return all(found.holds for found in written_sums(NOTE.sub("", solution)))


def retell(story: Story, rng: random.Random) -> Row | None:
    """The story with other numbers, or None when no try gave a sensible one."""
    for _ in range(TRIES):
        new = {old: _other(old, rng) for old in story.free}
        told = _told(story, new)
        if told is not None:
            return told
    return None


def _told(story: Story, new: dict[Fraction, Fraction]) -> Row | None:
    question = NUMBER.sub(lambda match: _swapped(match[0], new), story.question)
    if question == story.question:
        return None  # every number drew itself
    known, fixed = dict(new), set(story.fixed)
    pieces, place = [], 0
    for note in NOTE.finditer(story.solution):
        before = story.solution[place : note.start()]
        place, old = note.end(), _number(note[2])
        if old not in known and old in _numbers(before):
            return None  # the result is told before it is worked out
        fixed |= _numbers(before + note[1]) - set(known)
        pieces.append(_retold(before, known))
        expression = _retold(note[1], known)
        result = _result(expression, is_whole=old.denominator == 1)
        if result is None or known.setdefault(old, result) != result:
            return None
        if old in fixed and result != old:
            return None  # one number stands for two things
        pieces.append(f"<<{expression}={_text(result)}>>")
    pieces.append(_retold(story.solution[place:], known))
    solution = "".join(pieces)
    if not _hold(solution):
        return None  # a number that has no note kept its old value
    final = known[_number(NOTE.findall(story.solution)[-1][1])]
    return {"question": question, "answer": f"{solution}\n#### {_text(final)}"}


def _result(expression: str, *, is_whole: bool) -> Fraction | None:
    """What an expression comes to; None where that is nothing a story would have."""
    try:
        result = calculate(expression)
    except (ValueError, ZeroDivisionError):
        return None
    is_broken = result.denominator != 1 and is_whole
    if not 0 < result < LARGEST or is_broken or 10**4 % result.denominator:
        return None
    return result


def _retold(text: str, known: dict[Fraction, Fraction]) -> str:
    return ANY_NUMBER.sub(lambda match: _swapped(match[0], known), text)


def _swapped(text: str, known: dict[Fraction, Fraction]) -> str:
    try:
        old = _number(text)
    except ValueError:
        return text
    return _text(known[old]) if old in known else text


def _numbers(text: str) -> set[Fraction]:
    return {_number(number) for number in ANY_NUMBER.findall(text)}


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
