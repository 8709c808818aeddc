"""What a reply is worth: its JSON is read, checked against the schema and compared leaf by leaf.

Only what the text means is compared, never the text.  Strict reads the answer block of a reply in
the strict form.  Lenient asks whether the right answer was reached: the one object in the answer
block, in the last fence or anywhere, with keys without their case and numbers also as text.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from jsonschema.protocols import Validator

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.numbers import parse_number
from xmlgrpo_rewards.task import Example, Grade
from xmlgrpo_tasks.json_qa.leaves import Leaves, Modes, Path, leaves, pointer, shared
from xmlgrpo_tasks.json_qa.schema import short_lists, validator_of, value_fault
from xmlgrpo_tasks.json_qa.text import MAX_CHARS, NotJson, read_json, read_object, write_json

PARSES, VALID = "parses", "valid"  # what a reply may achieve besides
MAX_OPENINGS = 6  # of an object, that lenient reading tries
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[{}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Key:
    """What a reply to one problem is held against."""

    gold: dict[str, Any]
    leaves: Leaves
    modes: Modes
    schema: dict[str, Any]
    validator: Validator


@lru_cache(maxsize=1024)
def key_of(gold: str, judge: str) -> Key:
    """The key of a problem, from what its `Example` holds."""
    hidden = json.loads(judge)
    gold_value = read_object(gold)
    return Key(
        gold=gold_value,
        leaves=leaves(gold_value, hidden["compare"]),
        modes=hidden["compare"],
        schema=hidden["schema"],
        validator=validator_of(write_json(hidden["schema"])),
    )


@lru_cache(maxsize=1024)
def telling_leaves(gold: str, judge: str) -> Leaves:
    """The leaves of the gold that only the passage tells: no null, boolean or one of few."""
    key = key_of(gold, judge)
    without = _without_open(key.gold, (), short_lists(key.schema))
    return key.leaves - leaves(without, key.modes)


def _without_open(value: Any, path: Path, closed: Set[str]) -> Any:
    """The value with a list that no gold has for each leaf that could be any of many."""
    if pointer(path) in closed:
        return value
    if isinstance(value, dict):
        return {k: _without_open(part, (*path, k), closed) for k, part in value.items()}
    if isinstance(value, list):
        return [_without_open(part, (*path, "*"), closed) for part in value]
    return value if value is None or isinstance(value, bool) else [[[]]]


def grade_many(texts: Sequence[str], examples: Sequence[Example]) -> list[Grade]:
    """Grade completions, each to the example beside it."""
    return [grade(text, example) for text, example in zip(texts, examples, strict=True)]


def grade(text: str, example: Example) -> Grade:
    """Grade a completion; never raises for what a model wrote."""
    read = reply.parse(text)
    key = key_of(example.gold, example.judge)
    value, note = _read_block(read.answer)
    parts, share, right = set(), 0.0, False
    if value is not None:
        parts.add(PARSES)
        found = leaves(value, key.modes)
        share = shared(found, key.leaves)
        fault = value_fault(key.validator, value)
        right = fault is None and found == key.leaves
        if fault is None and found & telling_leaves(example.gold, example.judge):
            parts.add(VALID)
        note = _note(found, key.leaves, fault)
    lenient = value if right else _lenient_value(text, read.answer)
    shown = value if value is not None else lenient
    return Grade(
        strict_correct=read.strict and right,
        lenient_correct=right or (lenient is not None and _is_nearly(lenient, key)),
        strict_format=read.strict,
        soft_format=read.soft,
        answered=shown is not None,
        answer=None if shown is None else write_json(shown, sort_keys=True),
        note="" if right else note,
        share=share,
        parts=frozenset(parts),
    )


def _read_block(answer: str | None) -> tuple[dict[str, Any] | None, str]:
    if answer is None:
        return None, "no answer block, or more than one"
    try:
        return read_object(answer), ""
    except NotJson as error:
        return None, f"not JSON: {error}"


def _note(found: Leaves, gold: Leaves, fault: str | None) -> str:
    if fault is not None:
        return f"not valid: {fault}"
    return f"{(found & gold).total()} of {gold.total()} values right, {found.total()} given"


# --- lenient ---------------------------------------------------------------------------------


def _lenient_value(text: str, answer: str | None) -> dict[str, Any] | None:
    """The one object of a reply; None where there is none, or two that differ."""
    place = text if answer is None else answer
    place = place[-2 * MAX_CHARS :]
    fenced = place.split(reply.FENCE)
    if len(fenced) >= 3:
        place = fenced[-2 if len(fenced) % 2 else -1]  # the last fence, also one that is not closed
    found: dict[str, Any] | None = None
    for value in _objects(place):
        if found is not None and leaves(value, {}) != leaves(found, {}):
            return None
        found = value
    return found


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects in a text, of the first few openings; one not closed ends it."""
    start = text.find("{")
    for _ in range(MAX_OPENINGS):
        end = _end_of_object(text, start) if start >= 0 else -1
        if end < 0:
            return
        try:
            value = read_json(text[start:end])
        except NotJson:
            end = start + 1
        else:
            yield value
        start = text.find("{", end)


def _end_of_object(text: str, start: int) -> int:
    """Where the brace at `start` is closed; -1 where it is not, or too far on."""
    depth = 0
    for token in _TOKEN.finditer(text, start, start + MAX_CHARS):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    return -1


def _is_nearly(value: Any, key: Key) -> bool:
    return leaves(_folded(value, key.gold), key.modes) == key.leaves


def _folded(value: Any, gold: Any) -> Any:
    """A value with the gold's own keys where only the case differs, and its numbers read."""
    if isinstance(value, dict) and isinstance(gold, dict):
        names = _names(value, gold)
        return {names[name]: _folded(part, gold.get(names[name])) for name, part in value.items()}
    if isinstance(value, list) and isinstance(gold, list) and gold:
        places = [*gold, *[gold[-1]] * (len(value) - len(gold))]
        return [_folded(part, place) for part, place in zip(value, places, strict=False)]
    if type(gold) in (int, Decimal):
        number = parse_number(value) if isinstance(value, str) else value
        if type(number) in (int, Decimal) and number == gold:
            return gold
    return value


def _names(value: Mapping[str, Any], gold: Mapping[str, Any]) -> dict[str, str]:
    """Key -> the gold's spelling of it, where exactly one key of each is meant."""
    meant = {name.casefold(): name for name in gold}
    rivals = Counter(name.casefold() for name in value)
    rivals.subtract(Counter(name.casefold() for name in gold))  # 0: one of each, or as many
    return {
        name: meant.get(name.casefold(), name) if rivals[name.casefold()] == 0 else name
        for name in value
    }
