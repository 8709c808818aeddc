"""Sums as a solution writes them, `5 apples + $3 = $8`, read and calculated again.

Whoever grades only the last number pays for guesses.  What is read here says whether the numbers on
the way hold: in a model's reasoning and in a story told with other numbers (recipes/gsm8k).  What
cannot be read as a sum is passed over, never called false.
"""

import operator
import re
from dataclasses import dataclass
from fractions import Fraction

PART = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+|[-+*/()])")
PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
APPLY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}

MAX_SUMS, MAX_CHARS = 64, 90  # of a text, and of either side: bounds for what a model may write
SIGNS = str.maketrans({"×": "*", "x": "*", "X": "*", "÷": "/", "−": "-", "–": "-", "$": None})
PERCENT = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*%")
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# what is counted, between a number and the next sign: `5 red apples + 3 apples`, `$20/hr * 8hrs`
WORD = r"(?!x\b)[A-Za-z][A-Za-z']*"
UNIT = re.compile(
    rf"(?<=[\d%])\s*/?\s*{WORD}(?:[\s/]+{WORD}){{0,5}}(?=\s*(?:[-+*/×÷−–)]|x\s|\Z))",
    re.IGNORECASE,
)
LEFT = re.compile(r"[\d.,$%()\s+\-*/×÷xX−–]*\Z")
RIGHT = re.compile(r"[\d.,$%()\s+\-*/×÷xX−–]*")
RESULT = re.compile(r"\s*(-?)\s*\$?\s*(-?)(\d[\d,]*(?:\.\d+)?|\.\d+)\s*(%?)")
OPERATORS = re.compile(r"[-+*/]")
HALF = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Sum:
    """One written sum.

    Attributes:
        result: the number after the equals sign.
        holds: whether the other side comes to it, as far as its decimals show.
    """

    result: Fraction
    holds: bool


def written_sums(text: str) -> list[Sum]:
    """The sums of a text that can be read, in order."""
    places = [place for place, sign in enumerate(text) if sign == "="][:MAX_SUMS]
    found = []
    for number, place in enumerate(places):
        start = places[number - 1] + 1 if number else 0
        end = places[number + 1] if number + 1 < len(places) else len(text)
        read = _read(text[max(start, place - MAX_CHARS) : place], text[place + 1 : end])
        if read is not None:
            found.append(read)
    return found


def is_true_chain(text: str, answer: Fraction) -> bool:
    """Whether there is a sum, every one holds, and the last comes to the answer."""
    sums = written_sums(text)
    return bool(sums) and all(found.holds for found in sums) and sums[-1].result == answer


def calculate(expression: str) -> Fraction:
    """The value of a sum of numbers, `+ - * /` and parentheses, exactly.

    Raises:
        ValueError: it is something else.
        ZeroDivisionError: it divides by zero.
    """
    parts = _parts(expression)
    value, rest = _sum(parts, 0, 1)
    if rest != len(parts):
        raise ValueError(f"expected a sum, got {expression!r}")
    return value


def _parts(expression: str) -> list[str]:
    parts, place = [], 0
    expression = expression.strip()
    while place < len(expression):
        match = PART.match(expression, place)
        if match is None:
            raise ValueError(f"expected a sum, got {expression!r}")
        parts.append(match[1])
        place = match.end()
    return parts


def _sum(parts: list[str], place: int, least: int) -> tuple[Fraction, int]:
    """Precedence climbing from `place` over operators that bind at least this strongly."""
    if place >= len(parts):
        raise ValueError("expected a number, got the end")
    if parts[place] == "(":
        value, place = _sum(parts, place + 1, 1)
        if place >= len(parts) or parts[place] != ")":
            raise ValueError("expected a closing parenthesis")
        place += 1
    else:
        if parts[place] in "+-*/)":
            raise ValueError(f"expected a number, got {parts[place]!r}")
        value, place = Fraction(parts[place]), place + 1
    while place < len(parts) and PRECEDENCE.get(parts[place], 0) >= least:
        sign = parts[place]
        right, place = _sum(parts, place + 1, PRECEDENCE[sign] + 1)
        value = APPLY[sign](value, right)
    return value, place


def _read(before: str, after: str) -> Sum | None:
    """The sum around an equals sign; `after` ends before the next one."""
    shown = RESULT.match(after)
    lefts = _values(_last(before))
    if shown is None or not lefts:
        return None
    digits = shown[3].replace(",", "")
    result = Fraction(digits) * (-1 if shown[1] or shown[2] else 1)
    decimals = len(digits.partition(".")[2])
    rights = [result, *([result / 100] if shown[4] else [])]
    near = HALF / 10**decimals if decimals else Fraction(0)
    holds = any(abs(left - right) <= near for left in lefts for right in rights)
    if not holds:  # `2*(3+4) = 2*7 = 14`, `1/4 + 1/4 = 1/2`
        whole = RIGHT.match(after[:MAX_CHARS])
        others = _values(_first(whole[0])) if whole else []
        holds = any(left == right for left in lefts for right in others)
        if holds and others:
            result = others[0]
    return Sum(result, holds)


def _last(text: str) -> str:
    """The longest sum at the end of a text that is one by itself; empty where there is none."""
    found = LEFT.search(UNIT.sub("", text))
    words = found[0].split() if found else []
    for start in range(len(words)):
        before, rest = words[start - 1] if start else "", " ".join(words[start:])
        if not before.endswith(tuple("+-*/×÷xX−–(")) and _is_sum(rest):
            return rest
    return ""


def _first(text: str) -> str:
    """The longest sum at the start of a text."""
    words = text.strip().rstrip(".,").split()
    for end in range(len(words), 0, -1):
        rest = " ".join(words[:end])
        if _is_sum(rest):
            return rest
    return ""


def _is_sum(text: str) -> bool:
    """Whether it calculates and has an operator between numbers."""
    return bool(OPERATORS.search(_plain(text)[1:])) and bool(_values(text))


def _values(text: str) -> list[Fraction]:
    """What a sum may mean: with per cent as hundredths and, where there are some, as numbers."""
    plain = _plain(text)
    found = []
    for reading in dict.fromkeys((PERCENT.sub(r"(\1/100)", plain), plain.replace("%", ""))):
        try:
            found.append(calculate(reading))
        except (ValueError, ZeroDivisionError):
            continue
    return found


def _plain(text: str) -> str:
    return THOUSANDS.sub("", text).translate(SIGNS).strip().rstrip(".,")
