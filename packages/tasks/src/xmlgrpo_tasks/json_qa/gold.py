"""Whether a row can be trained and measured on: the gold wins, and what reads nothing loses."""

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.task import Example
from xmlgrpo_tasks.json_qa.grading import Key, grade, key_of, telling_leaves
from xmlgrpo_tasks.json_qa.leaves import leaves
from xmlgrpo_tasks.json_qa.mutants import other_shapes, other_values
from xmlgrpo_tasks.json_qa.schema import target_of, value_fault
from xmlgrpo_tasks.json_qa.text import write_json

MIN_CLOSED = 5  # values of short lists, without any other: 32 blind guesses at least
MOST_WHOLE = 40  # leaves of a gold of which each is tried otherwise; of a larger one some
MOST_EXAMPLES = 8  # of a part of a schema that are tried
EMPTY = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": [], "null": None}


def gold_fault(example: Example) -> str | None:
    """Why a row would teach or measure something wrong, in one sentence; None where it does not."""
    key = key_of(example.gold, example.judge)
    if (fault := value_fault(key.validator, key.gold)) is not None:
        return f"the gold does not follow its schema: {fault}; correct one of them"
    graded = grade(reply.render("The passage says so.", example.gold), example)
    if not (graded.strict_correct and graded.lenient_correct):
        return f"the gold is not graded right: {graded.note}; correct it"
    for what, constant in constants(key):
        if leaves(constant, key.modes) == key.leaves:
            return (
                f"{what} would be graded right, without the passage; ask for something that only "
                "the passage says"
            )
    others = chain((other for _, other in other_values(key.gold)), other_shapes(key.gold))
    for other in islice(others, None, None, 1 + key.leaves.total() // MOST_WHOLE):
        if leaves(other, key.modes) == key.leaves:
            return f"the wrong answer {write_json(other)} would be graded right; correct `compare`"
    if not telling_leaves(example.gold, example.judge) and key.leaves.total() < MIN_CLOSED:
        return (
            "each value of the gold is one of a short list (enum, boolean, null), so that a reply "
            "that never changes is right every few rows; ask for the words or the number that show "
            "it, too"
        )
    return None


def constants(key: Key) -> Iterator[tuple[str, Any]]:
    """What a reply can say without the passage, by name."""

    def nothing(schema: dict[str, Any]) -> list[Any]:
        kinds = schema.get("type", "null")
        kind = kinds if isinstance(kinds, str) else kinds[0]
        return [*schema.get("enum", [schema.get("const", EMPTY.get(kind))])][:1]

    def default(schema: dict[str, Any]) -> list[Any]:
        return [schema["default"]] if "default" in schema else []

    def example_at(place: int) -> Callable[[dict[str, Any]], list[Any]]:
        return lambda schema: schema.get("examples", [])[place : place + 1]

    yield "the empty object", {}
    yield "the schema itself", key.schema
    yield "the schema's defaults", _filled(key.schema, key.schema, default)
    for place in range(MOST_EXAMPLES):
        examples = _filled(key.schema, key.schema, example_at(place))
        if place and not examples:
            break
        yield f"the schema's examples{f', number {place + 1}' * bool(place)}", examples
    yield "null for each value", _filled(key.schema, key.schema, lambda _schema: [None])
    yield "zeros and empty texts", _filled(key.schema, key.schema, nothing)


def _filled(
    schema: dict[str, Any], root: dict[str, Any], choose: Callable[[dict[str, Any]], list[Any]]
) -> Any:
    """An object with what `choose` gives first for each property; those with nothing are left out.

    A schema's own choice of a whole object goes before its properties'.
    """
    schema = _followed(schema, root)
    if whole := [value for value in choose(schema) if isinstance(value, dict)]:
        return whole[0]
    filled = {}
    for name, part in schema.get("properties", {}).items():
        subschema = _followed(part, root)
        if "properties" in subschema:
            filled[name] = _filled(subschema, root, choose)
        elif chosen := choose(subschema):
            filled[name] = chosen[0]
    return filled


def _followed(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    while isinstance(schema, dict) and "$ref" in schema:
        schema = target_of(schema["$ref"], root, "#")
    return schema if isinstance(schema, dict) else {}
