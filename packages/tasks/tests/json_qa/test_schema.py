"""Which schemas are taken, and that the validator finds what they forbid."""

from typing import Any

import pytest

from xmlgrpo_tasks.json_qa.schema import pointers, schema_fault, validator_of, value_fault
from xmlgrpo_tasks.json_qa.text import read_json, write_json

LOOP = {"items": {"$ref": "#/properties/a"}}


def record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "$defs": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        pytest.param({"a": {"$ref": "http://127.0.0.1:9/a.json"}}, "nothing is fetched", id="http"),
        pytest.param({"a": {"$ref": "other.json#/a"}}, "nothing is fetched", id="file"),
        pytest.param({"a": {"$ref": "#/$defs/b"}}, "leads nowhere", id="nowhere"),
        pytest.param({"a": LOOP}, "leads back to itself", id="loop"),
        pytest.param({"a": {"typ": "string"}}, "did you mean 'type'", id="misspelt"),
        pytest.param({"a": {"requierd": ["b"]}}, "did you mean 'required'", id="misspelt-list"),
        pytest.param({"a": {"$id": "x"}}, "'$id'", id="id"),
        pytest.param({"a": {"$schema": "x"}}, "'$schema'", id="schema-below"),
        pytest.param({"a": {"patternProperties": {"a": {}}}}, "'patternProperties'", id="keys"),
        pytest.param({"a": {"type": "strin"}}, "'strin'", id="no-type"),
        pytest.param({"a": {"minimum": "1"}}, "'1' is not of type 'number'", id="wrong-type"),
        pytest.param({"a": {"enum": 1}}, "1 is not of type 'array'", id="enum-of-none"),
        pytest.param({"a": {"items": [{}]}}, "expected a schema, got list", id="items-of-draft-7"),
        pytest.param({"a": {"anyOf": {"type": "null"}}}, "anyOf", id="any-of"),
        pytest.param({"a": {"format": "dat"}}, "did you mean 'date'", id="misspelt-format"),
        pytest.param({"a": {"format": "regex"}}, "the format 'regex'", id="format-regex"),
        pytest.param({"a": {"pattern": "^(a+)+$"}}, "run for minutes", id="nested-repeats"),
        pytest.param({"a": {"pattern": "^(a|a)*b$"}}, "run for minutes", id="alternation"),
        pytest.param({"a": {"pattern": "^a*a*a*a*b$"}}, "4 open repeats", id="open-repeats"),
        pytest.param({"a": {"pattern": "^a?b{2,9}c+$"}}, "3 open repeats", id="three-repeats"),
        pytest.param({"a": {"pattern": "a+"}}, "run for minutes", id="no-anchors"),
        pytest.param({"a": {"pattern": "^[b-a]$"}}, "regex", id="no-regex"),
        pytest.param({"a": {"enum": [float("nan")]}}, "NaN", id="nan"),
        pytest.param({str(n): {} for n in range(300)}, "over 200 parts", id="too-large"),
    ],
)  # fmt: skip
def test_a_schema_is_refused_with_its_reason(schema: dict[str, Any], says: str) -> None:
    fault = schema_fault(record(**schema))
    assert fault is not None
    assert says in fault
    assert "\n" not in fault


def test_a_schema_that_grows_by_its_references_is_refused() -> None:
    doubling = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(20)}
    schema = {"$ref": "#/$defs/d0", "$defs": {**doubling, "d20": {"type": "object"}}}
    assert "over 200 parts" in str(schema_fault(schema))


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        pytest.param({"type": "integer"}, ["1", "1.0", "1e2"], ["1.5", "true", '"1"'], id="whole"),
        pytest.param({"type": "number"}, ["1", "0.1"], ["true", "null"], id="number"),
        pytest.param({"multipleOf": 0.01}, ["1.23", "7", "1e300"], ["1.234"], id="multiple"),
        pytest.param({"minimum": 0.1}, ["0.1", "1"], ["0.0999"], id="minimum"),
        pytest.param({"enum": [1, "a"]}, ["1", '"a"', "1.0"], ["true", '"1"'], id="enum"),
        pytest.param({"pattern": "^[0-9]{2}:\\d\\d$"}, ['"09:30"', "9"],
                     ['"9:30"', '"09:30\\n"', '"०९:३०"', '"x09:30"'], id="pattern"),
        pytest.param({"pattern": "^[a-z.+]+x?$"}, ['"a.b"'], [f'"{"a" * 300}"'], id="pattern-long"),
        pytest.param({"uniqueItems": True}, ["[1, true]", '[{"a": 1}, {"a": 2}]'],
                     ["[1, 1.0]", '[{"a": 1, "b": 2}, {"b": 2, "a": 1}]'], id="unique"),
        pytest.param({"format": "date"}, ['"2026-05-08"', "1"],
                     ['"2026-02-30"', '"20260508"', '"2026-W19-5"', '"8 May 2026"'], id="date"),
        pytest.param({"format": "date-time"}, ['"2026-05-08T10:00:00Z"'],
                     ['"2026-05-08T10:00:00"', '"2026-05-08"'], id="date-time"),
        pytest.param({"format": "time"}, ['"09:30"', '"09:30:00Z"'], ['"25:00"', '"9:30"'],
                     id="time"),
        pytest.param({"format": "email"}, ['"a@b.c"'], ['"a@b@c"', '"@b"', '"a b@c"'], id="email"),
        pytest.param({"format": "ipv4"}, ['"10.0.0.1"'], ['"10.0.0.256"', '"::1"'], id="ipv4"),
        pytest.param({"format": "ipv6"}, ['"::1"'], ['"10.0.0.1"', '":::"'], id="ipv6"),
        pytest.param({"format": "uuid"}, ['"123e4567-e89b-12d3-a456-426614174000"'],
                     ['"123e4567"'], id="uuid"),
        pytest.param({"$ref": "#/$defs/a"}, ["1"], ['"1"'], id="reference"),
        pytest.param({"required": ["b"], "additionalProperties": False, "properties": {"b": True}},
                     ['{"b": 1}'], ["{}", '{"b": 1, "__proto__": 1}'], id="closed"),
    ],
)  # fmt: skip
def test_a_value_is_held_to_its_schema(
    schema: dict[str, Any], valid: list[str], invalid: list[str]
) -> None:
    whole = record(a=schema) | {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    assert schema_fault(whole) is None
    validator = validator_of(write_json(whole))
    faults = {text: value_fault(validator, {"a": read_json(text)}) for text in (*valid, *invalid)}
    assert {text: faults[text] for text in valid} == dict.fromkeys(valid)
    assert [text for text in invalid if faults[text] is None] == []


def test_the_places_that_a_schema_speaks_of() -> None:
    schema = record(a={"items": {"properties": {"b/c": {}}}}, d={"anyOf": [{"prefixItems": [{}]}]})
    places = {place for place in pointers({**schema, "$defs": {}}) if not place.startswith("#")}
    assert places == {"", "/a", "/a/*", "/a/*/b~1c", "/d", "/d/0"}
