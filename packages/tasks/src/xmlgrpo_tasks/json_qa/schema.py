"""The row's JSON Schema: what of draft 2020-12 is taken, and the validator that it becomes.

A schema is the author's, the value is a model's.  So whatever lets a value cost time or reach the
network is refused before training, by name: references that are not local or lead back to
themselves, patterns with a choice to go back on, keywords that nobody knows (a misspelt one would
accept everything).  `uniqueItems` is checked in linear time here.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time
from decimal import Context, Decimal
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry

from xmlgrpo_rewards.errors import did_you_mean
from xmlgrpo_rewards.prose import one_line
from xmlgrpo_tasks.json_qa.leaves import escaped, leaves, mapped
from xmlgrpo_tasks.json_qa.text import NotJson, is_number, read_json, write_json

MAX_SCHEMA_CHARS, MAX_SCHEMA_VALUES = 32_768, 2_048
MAX_SUBSCHEMAS = 200  # with every reference followed
MAX_PATTERN_TEXT = 256  # characters; a longer text matches no pattern
MAX_VARIABLE = 2  # repeats of a pattern that may go back: at most 256 ** 2 steps
SHORT = 20  # values: a reply that never changes would meet one of so few too often
SHOWN_CHARS = 120

ONE = ("items", "additionalProperties", "contains", "not")
SEVERAL = ("anyOf", "oneOf", "allOf", "prefixItems")
NAMED = ("properties", "$defs", "definitions")
_PLAIN = """
    type enum const required minItems maxItems uniqueItems minContains maxContains minimum maximum
    exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern format minProperties
    maxProperties title description default examples $comment $ref deprecated
"""
KEYWORDS = frozenset((*ONE, *SEVERAL, *NAMED, *_PLAIN.split()))

_ATOM = (
    r"(?:\\[dwsDWS.\-/+*?(){}\[\]|^$\\]|\[\^?(?:\\[dws.\-/\]\\^]|[^\[\]\\])+\]|[^\\\[\](){}|^$*+?])"
)
_PATTERN = re.compile(rf"\^(?:{_ATOM}(?:[*+?]|\{{[0-9]+(?:,[0-9]*)?\}})?)*+\$")
_VARIABLE = re.compile(rf"{_ATOM}(?P<repeat>[*+?]|\{{[0-9]+,[0-9]*\}})")


def schema_fault(schema: object) -> str | None:
    """Why a schema cannot be used, in a part of a sentence; None where it can."""
    try:
        pointers(_read(write_json(schema)))
    except (NotJson, TypeError) as error:
        return f"the schema cannot be read: {error}"
    except _Unusable as error:
        return str(error)
    return None


def pointers(schema: Any) -> set[str]:
    """The JSON pointers of the places that a schema speaks of, `*` for those of an array.

    Raises:
        ValueError: the schema cannot be used.
    """
    found: set[str] = set()
    for number, (subschema, at, where) in enumerate(_subschemas(schema, schema, "", "#", ())):
        if number >= MAX_SUBSCHEMAS:
            raise _Unusable(f"the schema has over {MAX_SUBSCHEMAS} parts, references followed")
        _check_keywords(subschema, where)
        if (fault := _shape_fault(write_json(_outline(subschema)))) is not None:
            raise _Unusable(f"{where}: {fault}")
        found.add(at)
    return found


def short_lists(schema: Any) -> set[str]:
    """The JSON pointers of the places whose values come from a short list in the schema."""

    def is_short(part: dict[str, Any]) -> bool:
        low = part.get("minimum", part.get("exclusiveMinimum"))
        high = part.get("maximum", part.get("exclusiveMaximum"))
        few = low is not None and high is not None and high - low < SHORT
        return "enum" in part or "const" in part or few

    found = _subschemas(schema, schema, "", "#", ())
    return {at for subschema, at, _ in found if is_short(subschema)}


@lru_cache(maxsize=1024)
def validator_of(schema_text: str) -> Validator:
    """The validator of a schema that has no fault; nothing is ever fetched."""
    schema = _read(schema_text)
    schema.pop("$schema", None)  # by which jsonschema would take a validator of its own
    return _Checked(schema, registry=Registry(), format_checker=_FORMATS)


def value_fault(validator: Validator, value: Any) -> str | None:
    """Where and why a value does not follow the schema; None where it does."""
    error = next(validator.iter_errors(value), None)
    if error is None:
        return None
    return one_line(f"{error.json_path}: {error.message}", SHOWN_CHARS)


def _read(schema_text: str) -> Any:
    return read_json(schema_text, MAX_SCHEMA_CHARS, MAX_SCHEMA_VALUES)


class _Unusable(ValueError):  # noqa: N818 - what the schema is
    """A schema that is valid, perhaps, and is not taken."""


def _subschemas(
    schema: Any, root: Any, at: str, where: str, followed: tuple[str, ...]
) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Each subschema that is an object, the pointer of the value it speaks of, and its own."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise _Unusable(f"{where}: expected a schema, got {type(schema).__name__}")
    yield schema, at, where
    if (reference := schema.get("$ref")) is not None:
        if reference in followed:
            raise _Unusable(f"{where}: $ref {reference!r} leads back to itself; write it out")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise _Unusable(
                f"{where}: $ref {reference!r} is not in the schema itself; nothing is fetched, so "
                "copy what it names into $defs and write '#/$defs/NAME'"
            )
        target = target_of(reference, root, where)
        yield from _subschemas(target, root, at, reference, (*followed, reference))
    for key, parts in schema.items():
        for step, part in _parts(key, parts):
            below = at
            if key in ("items", "additionalProperties", "contains"):
                below = f"{at}/*"
            elif key in ("properties", "prefixItems"):
                below = f"{at}/{step}"
            yield from _subschemas(part, root, below, f"{where}/{key}/{step}".rstrip("/"), followed)


def _parts(key: str, parts: Any) -> Iterable[tuple[str | int, Any]]:
    """What stands below a keyword, each with the step that leads to it; nothing below most."""
    if key in ONE:
        return [("", parts)]
    if key in SEVERAL and isinstance(parts, list):
        return enumerate(parts)
    if key in NAMED and isinstance(parts, dict):
        return [(escaped(name), part) for name, part in parts.items()]
    return []


def target_of(reference: str, root: Any, where: str) -> Any:
    """What stands where a reference leads.

    Raises:
        ValueError: nothing does; says so of the place `where`.
    """
    target = root
    for step in reference.removeprefix("#/").split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(target, dict) or key not in target:
            raise _Unusable(f"{where}: $ref {reference!r} leads nowhere; is its name spelt right?")
        target = target[key]
    return target


def _check_keywords(schema: dict[str, Any], where: str) -> None:
    for key in schema:
        if key not in KEYWORDS and not (key == "$schema" and where == "#"):
            raise _Unusable(
                f"{where}: the keyword {key!r} is not one of those taken"
                f"{did_you_mean(key, KEYWORDS)}; a validator would pass over it"
            )
    if (pattern := schema.get("pattern")) is not None:
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
            raise _Unusable(
                f"{where}: the pattern {pattern!r} is not taken, since a reply may make it run for "
                "minutes; write ^, single characters or classes with their counts, $, without "
                "groups; or use enum or format"
            )
        variable = len(_VARIABLE.findall(pattern[1:-1]))
        if variable > MAX_VARIABLE:
            raise _Unusable(
                f"{where}: the pattern {pattern!r} has {variable} open repeats, of which "
                f"{MAX_VARIABLE} are taken, since a reply may make them run for minutes"
            )
    if (name := schema.get("format")) is not None and name not in _FORMATS.checkers:
        near = did_you_mean(str(name), _FORMATS.checkers)
        raise _Unusable(
            f"{where}: the format {name!r} is not checked{near}; there are: "
            f"{', '.join(_FORMATS.checkers)}"
        )


def _outline(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with nothing asked of its parts, which are checked one by one."""
    return {
        key: True
        if key in ONE
        else [True for _ in parts]
        if key in SEVERAL and isinstance(parts, list)
        else {"": True}
        if key in NAMED and isinstance(parts, dict)
        else parts
        for key, parts in schema.items()
    }


@lru_cache(maxsize=4096)  # rows of one kind share most of their parts, and a check takes a while
def _shape_fault(schema_text: str) -> str | None:
    try:
        Draft202012Validator.check_schema(_read(schema_text))
    except SchemaError as error:
        return one_line(f"{error.json_path}: {error.message}", SHOWN_CHARS)
    return None


# --- the validator ---------------------------------------------------------------------------

_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ZONE = "(?:Z|[+-][0-9]{2}:[0-9]{2})"
_MOMENT = rf"{_DATE}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(?:\.[0-9]{{1,6}})?{_ZONE}"
_TIME = rf"[0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}})?{_ZONE}?"
_EMAIL = r"[^@\s]{1,64}@[^@\s]{1,255}"


def _format(
    shape: str, read: Callable[[str], object] = lambda text: text
) -> Callable[[object], bool]:
    """Whether a text has a shape and can be read; `read` raises ValueError where it cannot."""
    matches = re.compile(shape).fullmatch

    def check(value: object) -> bool:
        if not isinstance(value, str):
            return True
        return matches(value) is not None and read(value) is not None

    return check


_FORMATS = FormatChecker(formats=())
for _name, _check in {
    "date": _format(_DATE, date.fromisoformat),
    "date-time": _format(_MOMENT, datetime.fromisoformat),
    "time": _format(_TIME, time.fromisoformat),
    "email": _format(_EMAIL),
    "uuid": _format("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    "ipv4": _format("[0-9.]{7,15}", IPv4Address),
    "ipv6": _format("[0-9a-fA-F:.]{2,45}", IPv6Address),
}.items():
    _FORMATS.checks(_name, raises=ValueError)(_check)


def _pattern(
    _validator: object, pattern: str, value: object, _schema: object
) -> Iterator[ValidationError]:
    if isinstance(value, str) and (
        len(value) > MAX_PATTERN_TEXT or not re.fullmatch(pattern[1:-1], value)
    ):
        yield ValidationError(f"{one_line(repr(value), 40)} does not match {pattern!r}")


def _unique(
    _validator: object,
    unique: bool,  # noqa: FBT001 - the signature of a keyword
    value: object,
    _schema: object,
) -> Iterator[ValidationError]:
    if unique and isinstance(value, list):
        different = {frozenset(leaves(mapped(part, _as_decimal), {}).items()) for part in value}
        if len(different) < len(value):
            yield ValidationError("has an element twice")


def _as_decimal(leaf: Any) -> Any:
    """With 1 and 1.0 alike, as JSON Schema has it."""
    return Decimal(leaf) if is_number(leaf) else leaf


def _multiple(
    _validator: object, step: int | Decimal, value: Any, _schema: object
) -> Iterator[ValidationError]:
    if is_number(value):
        exact = Context(prec=1000)  # more digits than two numbers of MAX_EXPONENT have between them
        if exact.remainder(Decimal(value), Decimal(step)):
            yield ValidationError(f"{value} is not a multiple of {step}")


_Checked = extend(
    Draft202012Validator,
    {"pattern": _pattern, "uniqueItems": _unique, "multipleOf": _multiple},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "number": lambda _checker, value: is_number(value),
            "integer": lambda _checker, value: is_number(value) and value == int(value),
        }
    ),
)
