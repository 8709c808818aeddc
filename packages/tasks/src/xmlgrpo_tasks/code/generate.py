"""Rows whose golds are certain: what each function must do is known before it is written.

Two levels: `easy`, functions of one line (at most 60 characters), which a model of a few million
parameters can learn; and `full`, functions of some lines, two of their cases shown.
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from xmlgrpo_tasks.code import values
from xmlgrpo_tasks.code.gold import cases_fault
from xmlgrpo_tasks.code.rows import judge_of
from xmlgrpo_tasks.rows import Row, Seen, different_rows

Level = Literal["easy", "full"]
ENTRY, SIGNATURE = "f", "def f(x)"
SHOWN = {"easy": 0, "full": 2}
HIDDEN = 6
LETTERS = "abcdefghijklmnopqrstuvwxyz"
Draw = Callable[[random.Random], Any]
_CONSTANT = re.compile(r"\b[AB]\b")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of function; `A` and `B` in its texts stand for constants that are drawn."""

    question: str
    program: str  # the expression that a line returns; the body of a function of some steps
    argument: Draw
    constants: Draw  # a pair


def _pair(low: int, high: int) -> Draw:
    return lambda rng: (rng.randint(low, high), rng.randint(low, high))


def _letters(rng: random.Random) -> tuple[str, str]:
    a, b = rng.sample(LETTERS, 2)
    return a + rng.choice("aeiou"), b + rng.choice("aeiou")


def _letter_and_letters(rng: random.Random) -> tuple[str, str]:
    return rng.choice(LETTERS), "".join(rng.sample(LETTERS, 3))


def _letter_and_number(rng: random.Random) -> tuple[str, int]:
    return rng.choice(LETTERS), rng.randint(2, 99)


def _number(rng: random.Random) -> int:
    return rng.randint(-99, 99)


def _numbers(rng: random.Random) -> list[int]:
    return [rng.randint(0, 99) for _ in range(rng.randint(4, 9))]


def _maybe_numbers(rng: random.Random) -> list[int]:
    return [] if rng.random() < 0.3 else _numbers(rng)


def _few_numbers(rng: random.Random) -> list[int]:
    return [rng.randint(0, 9) for _ in range(rng.randint(6, 12))]


def _text(rng: random.Random) -> str:
    return "".join(rng.choice(LETTERS) for _ in range(rng.randint(6, 14)))


def _stammered(rng: random.Random) -> str:
    return "".join(rng.choice(LETTERS) * rng.randint(1, 4) for _ in range(rng.randint(3, 6)))


def _words(rng: random.Random) -> list[str]:
    return [_text(rng)[: rng.randint(2, 5)] for _ in range(rng.randint(3, 6))]


def _counts(rng: random.Random) -> dict[str, int]:
    return {_text(rng)[:2]: rng.randint(1, 99) for _ in range(rng.randint(3, 6))}


_SMALL, _WIDE = _pair(2, 60), _pair(2, 99)

LINES = (
    # numbers
    Kind("Multiply x by A, then add B.", "x * A + B", _number, _WIDE),
    Kind("Add A to x, then multiply by B.", "(x + A) * B", _number, _WIDE),
    Kind("Subtract A from x, then add B times x.", "x - A + B * x", _number, _WIDE),
    Kind("Divide x by A: the remainder, plus B.", "x % A + B", _number, _WIDE),
    Kind("Divide x by A: the whole part, minus B.", "x // A - B", _number, _SMALL),
    Kind("The larger of x and A, minus B.", "max(x, A) - B", _number, _SMALL),
    Kind("The distance of x from A, times B.", "abs(x - A) * B", _number, _WIDE),
    # lists
    Kind("Each item of x times A, plus B.", "[i * A + B for i in x]", _numbers, _WIDE),
    Kind("The items of x above A, then B.", "[i for i in x if i > A] + [B]", _numbers, _SMALL),
    Kind("The sum of x, times A, plus B.", "sum(x) * A + B", _numbers, _WIDE),
    Kind("How many items of x are above A, plus B.", "sum(i > A for i in x) + B", _numbers, _SMALL),
    Kind("Sort x, then add the items A and B.", "sorted(x) + [A, B]", _numbers, _WIDE),
    Kind("The largest item of x minus A, times B.", "(max(x) - A) * B", _numbers, _SMALL),
    Kind("Join the words of x with 'A', then add 'B'.", "'A'.join(x) + 'B'", _words, _letters),
    Kind("Each word of x between 'A' and 'B'.", "['A' + w + 'B' for w in x]", _words, _letters),
    # strings
    Kind("Reverse x and put it between 'A' and 'B'.", "'A' + x[::-1] + 'B'", _text, _letters),
    Kind("Replace each 'A' in x by 'B'.", "x.replace('A', 'B')", _text, _letter_and_letters),
    Kind("x in capitals, then '-A-B'.", "x.upper() + '-A-B'", _text, _letters),
    Kind("How often 'A' is in x, plus B.", "x.count('A') + B", _text, _letter_and_number),
    Kind("B times the length of x, then 'A'.", "str(len(x) * B) + 'A'", _text, _letter_and_number),
    # dicts
    Kind("Each value of x times A, plus B.", "{k: x[k] * A + B for k in x}", _counts, _WIDE),
    Kind("The sum of x's values minus A, times B.", "(sum(x.values()) - A) * B", _counts, _WIDE),
    Kind("x with the value B at the key 'A'.", "{**x, 'A': B}", _counts, _letter_and_number),
    Kind(
        "How many values of x are above A, times B.",
        "sum(x[k] > A for k in x) * B",
        _counts,
        _SMALL,
    ),
)

STEPS = (
    Kind(
        "Write each run of equal letters in x as the letter and the run's length; runs of length 1 "
        "as the letter alone. Put 'A' between the runs.",
        """parts = []
i = 0
while i < len(x):
    j = i
    while j < len(x) and x[j] == x[i]:
        j += 1
    parts.append(x[i] + (str(j - i) if j - i > 1 else ""))
    i = j
return "A".join(parts)""",
        _stammered,
        lambda rng: (rng.choice("-/+:;_|.,*"), 0),
    ),
    Kind(
        "The list of running sums of x, where a sum that reaches A starts again from 0 with the "
        "next item.",
        """sums = []
total = 0
for item in x:
    total += item
    sums.append(total)
    if total >= A:
        total = 0
return sums""",
        _numbers,
        _pair(60, 200),
    ),
    Kind(
        "Move each letter of x forward by A places in the alphabet, from z on to a; letters at an "
        "even place of x (0, 2, ...) by B.",
        """out = ""
for i, letter in enumerate(x):
    by = B if i % 2 == 0 else A
    out += chr((ord(letter) - 97 + by) % 26 + 97)
return out""",
        _text,
        _pair(1, 25),
    ),
    Kind(
        "Group the words of x by their length: a dict from length to the words of it, in order. "
        "Leave out words that begin with 'A'.",
        """groups = {}
for word in x:
    if not word.startswith("A"):
        groups.setdefault(len(word), []).append(word)
return groups""",
        _words,
        lambda rng: (rng.choice(LETTERS), 0),
    ),
    Kind(
        "How many pairs of places i < j in x have a sum x[i] + x[j] that A divides.",
        """count = 0
for j in range(len(x)):
    for i in range(j):
        if (x[i] + x[j]) % A == 0:
            count += 1
return count""",
        _numbers,
        _pair(2, 12),
    ),
    Kind(
        "Cut x into lists of A items, the last one perhaps shorter, and give the sums of those.",
        """return [sum(x[i : i + A]) for i in range(0, len(x), A)]""",
        _numbers,
        _pair(2, 4),
    ),
    Kind(
        "The mean of the items of x that are at least A, as a float. Raise ValueError if there is "
        "none.",
        """chosen = [item for item in x if item >= A]
if not chosen:
    raise ValueError("nothing is left")
return sum(chosen) / len(chosen)""",
        _maybe_numbers,
        _pair(20, 90),
    ),
    Kind(
        "The items of x that occur exactly once, sorted, each times A.",
        """counts = {}
for item in x:
    counts[item] = counts.get(item, 0) + 1
return sorted(item * A for item in counts if counts[item] == 1)""",
        _few_numbers,
        _WIDE,
    ),
    Kind(
        "The longest piece of x, without a gap, in which each item is at most A; the first of "
        "several.",
        """best = []
piece = []
for item in x:
    piece = piece + [item] if item <= A else []
    if len(piece) > len(best):
        best = piece
return best""",
        _numbers,
        _pair(30, 70),
    ),
    Kind(
        "The keys of x with a value above A, the largest value first, equal ones by key.",
        """kept = [key for key in x if x[key] > A]
return sorted(kept, key=lambda key: (-x[key], key))""",
        _counts,
        _pair(5, 60),
    ),
    Kind(
        "Take x; while it is above A, halve it if it is even, else subtract B. How many times was "
        "that done?",
        """count = 0
while x > A:
    x = x // 2 if x % 2 == 0 else x - B
    count += 1
return count""",
        lambda rng: rng.randint(50, 5000),
        lambda rng: (rng.randint(1, 20), rng.randint(1, 9)),
    ),
    Kind(
        "The tuple of the number of vowels (aeiou) of x and the place of the first 'A', or -1.",
        """vowels = sum(letter in "aeiou" for letter in x)
return vowels, x.find("A")""",
        _text,
        lambda rng: (rng.choice(LETTERS), 0),
    ),
)


def generated(count: int, seed: int, level: Level = "easy") -> Iterator[Row]:
    """At most `count` rows, the same for the same seed, no two with the same question.

    Fewer only where a level has no more: `easy` has about 150,000 questions, `full` some 2,000.
    """
    rng = random.Random(f"{level} {seed}")  # noqa: S311 - no secret depends on it
    kinds = LINES if level == "easy" else STEPS

    def draw(seen: Seen) -> Row | None:
        kind = rng.choice(kinds)
        constants = dict(zip("AB", kind.constants(rng), strict=True))
        question, program = (_filled(text, constants) for text in (kind.question, kind.program))
        if (question,) in seen:
            return None
        return _row(question, program, kind.argument, rng, level)

    return different_rows(count, ("question",), draw)


def _filled(text: str, constants: dict[str, Any]) -> str:
    return _CONSTANT.sub(lambda found: str(constants[found[0]]), text)


def _row(
    question: str, program: str, argument: Draw, rng: random.Random, level: Level
) -> Row | None:
    """A row; None where its cases happen to tell a lazy program nothing."""
    if level == "easy":
        gold, solution = f"{SIGNATURE}: return {program}", f"It is {program}."
    else:
        gold, solution = f"{SIGNATURE}:\n" + re.sub("^", "    ", program, flags=re.MULTILINE), ""
    namespace: dict[str, Any] = {}
    exec(gold, namespace)  # noqa: S102 - written in this file
    cases, shown = [], SHOWN[level]
    for value in _different(argument, rng, shown + HIDDEN):
        try:
            expected = values.pack(namespace[ENTRY](value))
        except ValueError:
            expected = {"raises": "ValueError"}
        cases.append([[values.pack(value)], expected])
    row = {
        "question": question,
        "entry": ENTRY,
        "signature": SIGNATURE,
        "public": cases[:shown],
        "hidden": cases[shown:],
        "gold": gold,
        "solution": solution,
    }
    return None if cases_fault(judge_of(json.dumps(row))) else row


def _different(draw: Draw, rng: random.Random, count: int) -> list[Any]:
    drawn: dict[str, Any] = {}
    while len(drawn) < count:
        value = draw(rng)
        drawn.setdefault(repr(value), value)
    return list(drawn.values())
