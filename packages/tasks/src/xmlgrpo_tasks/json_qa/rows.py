"""Rows of the task: what is read, what is refused, what is asked."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from xmlgrpo_rewards.errors import did_you_mean
from xmlgrpo_rewards.task import BadRow, Example
from xmlgrpo_tasks.json_qa.leaves import MODES, Modes, Path, mode_at, pointer, read_moment
from xmlgrpo_tasks.json_qa.schema import pointers, schema_fault
from xmlgrpo_tasks.json_qa.text import MAX_DEPTH, NotJson, is_number, read_object, write_json
from xmlgrpo_tasks.rows import text_field

_FITS: Mapping[str, Callable[[Any], bool]] = {
    "exact": lambda _value: True,
    "number": is_number,
    "date": lambda value: isinstance(value, str) and read_moment(value) is not None,
    "text-fold": lambda value: isinstance(value, str),
    "set": lambda value: isinstance(value, list),
}
FORM = "Answer with one JSON object and nothing else. It follows this JSON Schema:"


def example_of(row: Mapping[str, Any], row_id: str) -> Example:
    """Read one row: `text`, `question`, `schema`, `gold`, and `compare` where it is not all exact.

    The last three are objects, or JSON texts of them, as tables hold them.

    Raises:
        BadRow: a field is missing or of another type; the schema is not valid, or has what is not
            taken (see `schema.py`); the gold is no JSON object; `compare` does not fit them.
    """
    text, question = (text_field(row, name, row_id) for name in ("text", "question"))
    schema, gold = (_object(row, name, row_id) for name in ("schema", "gold"))
    compare = _object(row, "compare", row_id) if row.get("compare") else {}
    if (fault := schema_fault(schema)) is not None:
        raise BadRow(row_id, f"a schema that can be used ({fault})", schema)
    gold_text = write_json(gold)
    try:
        value = read_object(gold_text)
    except NotJson as error:
        raise BadRow(row_id, f"a gold that is a JSON object ({error})", gold) from None
    if (fault := _compare_fault(compare, value, schema)) is not None:
        raise BadRow(row_id, f"`compare` to fit the gold and the schema ({fault})", compare)
    judge = write_json({"question": question, "schema": schema, "compare": compare})
    return Example(
        id=row_id,
        question=f"{text}{_asked(question, schema)}",
        gold=gold_text,
        solution=_solution(value),
        judge=judge,
    )


def row_of(example: Example) -> dict[str, Any]:
    """Write a problem as a row that `example_of` reads back."""
    hidden = json.loads(example.judge)
    question, schema = hidden["question"], hidden["schema"]
    return {
        "text": example.question.removesuffix(_asked(question, schema)),
        "question": question,
        "schema": schema,
        "gold": json.loads(example.gold),
        "compare": hidden["compare"],
    }


def _asked(question: str, schema: Mapping[str, Any]) -> str:
    return f"\n\n{question}\n{FORM}\n{write_json(schema)}"


def _solution(gold: Mapping[str, Any]) -> str:
    """What could stand in the reasoning: each value with its key."""
    return "\n".join(f"{name}: {write_json(value)}" for name, value in gold.items())


def _object(row: Mapping[str, Any], name: str, row_id: str) -> dict[str, Any]:
    value = row.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRow(row_id, f"JSON in {name!r} ({error})", value) from None
    if not isinstance(value, dict):
        raise BadRow(row_id, f"a JSON object in {name!r}", value)
    if _depth(value) > MAX_DEPTH:
        raise BadRow(row_id, f"at most {MAX_DEPTH} levels in {name!r}", name)
    return value


def _depth(value: object) -> int:
    """Levels of a value, counted level by level, so that no depth is too much."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        inside = [
            part.values() if isinstance(part, dict) else part
            for part in level
            if isinstance(part, dict | list)
        ]
        level, depth = [part for parts in inside for part in parts], depth + 1
    return depth


def _compare_fault(compare: Modes, gold: Any, schema: Mapping[str, Any]) -> str | None:
    for mode in compare.values():
        if mode not in MODES:
            near = did_you_mean(str(mode), MODES)
            return f"no mode is named {mode!r}{near}; there are: {', '.join(MODES)}"
    known = pointers(schema)
    for path, value in _places(gold, ()):
        mode = mode_at(path, compare)
        known.add(pointer(path))
        known.add(pointer(tuple("*" if isinstance(step, int) else step for step in path)))
        if value is not None and not _FITS[mode](value):
            return f"{pointer(path)} is compared as {mode}, and the gold has {value!r} there"
    for name in compare:
        if name not in known:
            return f"{name!r} names no value{did_you_mean(name, known)}"
    return None


def _places(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    yield path, value
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _places(part, (*path, key))
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from _places(part, (*path, place))
