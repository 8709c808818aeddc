"""Rows: what is refused and why, which golds teach nothing, and what the generator makes."""

import json
import re
from collections import Counter
from itertools import islice
from typing import Any

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import render
from xmlgrpo_tasks.json_qa import TASK
from xmlgrpo_tasks.json_qa.domains import record
from xmlgrpo_tasks.json_qa.generate import generated
from xmlgrpo_tasks.json_qa.leaves import read_moment
from xmlgrpo_tasks.json_qa.text import texts

TEXT, COUNT, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
ROW: dict[str, Any] = {
    "text": "Ann Lee is 30.",
    "question": "Who is it?",
    "schema": record(name=TEXT, age=COUNT),
    "gold": {"name": "Ann Lee", "age": 30},
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"text": None}, "a text in 'text', got None", id="no-text"),
        pytest.param({"question": " "}, "a text in 'question', got ' '", id="blank-question"),
        pytest.param({"gold": None}, "a JSON object in 'gold', got None", id="no-gold"),
        pytest.param({"gold": [1]}, "a JSON object in 'gold', got [1]", id="gold-is-a-list"),
        pytest.param({"gold": "{'a': 1}"}, "JSON in 'gold'", id="gold-is-no-json"),
        pytest.param({"gold": '{"a": ' * 5000}, "JSON in 'gold'", id="gold-of-5000-levels"),
        pytest.param({"gold": {"a": float("nan")}}, "NaN is no JSON number", id="gold-nan"),
        pytest.param({"gold": {"a": "\ud800"}}, "half a character", id="gold-half-a-character"),
        pytest.param({"gold": {"a": "a" * 9000}}, "over 8,192 characters", id="gold-too-long"),
        pytest.param({"schema": True}, "a JSON object in 'schema'", id="schema-true"),
        pytest.param(
            {"schema": record(name={"$ref": "https://example.com/name.json"}, age=COUNT)},
            "nothing is fetched", id="schema-fetches",
        ),
        pytest.param({"schema": {"typ": "object"}}, "did you mean 'type'", id="schema-misspelt"),
        pytest.param({"compare": {"/name": "fold"}}, "there are: exact", id="no-such-mode"),
        pytest.param({"compare": {"/nam": "exact"}}, "did you mean '/name'", id="no-such-place"),
        pytest.param({"compare": {"/name": "number"}}, "compared as number", id="mode-of-numbers"),
        pytest.param({"compare": {"/age": "set"}}, "compared as set", id="mode-of-lists"),
        pytest.param({"compare": {"/name": "date"}}, "compared as date", id="mode-of-dates"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_a_problem_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as refused:
        TASK.example({**ROW, **changes}, "my.jsonl:7")
    message = str(refused.value)
    assert message.startswith("row my.jsonl:7: expected ")
    assert says in message


def test_a_row_may_hold_its_objects_as_text() -> None:
    as_text = {key: json.dumps(ROW[key]) for key in ("schema", "gold")}
    assert TASK.example({**ROW, **as_text}, "row") == TASK.example(ROW, "row")


@pytest.mark.parametrize(
    ("schema", "gold", "says"),
    [
        pytest.param(record(name=TEXT, age=COUNT), ROW["gold"], None, id="good"),
        pytest.param(record(name=TEXT), ROW["gold"], "does not follow its schema", id="not-valid"),
        pytest.param(record(name=TEXT), {}, "'name' is a required property", id="missing"),
        pytest.param({"type": "object"}, {}, "the empty object", id="empty"),
        pytest.param(
            record(name={**TEXT, "default": "Ann"}), {"name": "Ann"}, "defaults", id="defaults"
        ),
        pytest.param(
            record(name={**TEXT, "examples": ["Ann"]}), {"name": "Ann"}, "examples", id="examples"
        ),
        pytest.param(record(a={}, b={}), {"a": None, "b": None}, "null for each", id="nulls"),
        pytest.param(record(a=COUNT, b=TEXT), {"a": 0, "b": ""}, "zeros and empty", id="zeros"),
        pytest.param(record(a={"const": "x"}), {"a": "x"}, "zeros and empty", id="constant"),
        pytest.param({"const": {"a": "x"}}, {"a": "x"}, "zeros and empty", id="one-object"),
        pytest.param(
            {"enum": [{"a": "x"}, {"a": "y"}]}, {"a": "y"}, "one of a short list", id="two-objects"
        ),
        pytest.param(
            {"type": "object", "default": {"a": "x"}}, {"a": "x"}, "defaults", id="default-object"
        ),
        pytest.param(
            {"$ref": "#/$defs/r", "$defs": {"r": record(a={"const": "x"})}}, {"a": "x"},
            "zeros and empty", id="constant-by-reference",
        ),
        pytest.param({"type": "object"}, {"type": "object"}, "the schema itself", id="schema"),
        pytest.param(record(a=FLAG), {"a": True}, "one of a short list", id="boolean"),
        pytest.param(
            record(a={"enum": ["x", "y", "z"]}), {"a": "y"}, "one of a short list", id="enum"
        ),
        pytest.param(
            record(a={"oneOf": [{"const": "x"}, {"const": "y"}]}), {"a": "y"}, "short list",
            id="one-of",
        ),
        pytest.param(
            record(a={"type": "array", "items": {"enum": ["x", "y"]}}), {"a": ["y"]},
            "one of a short list", id="list-of-an-enum",
        ),
        pytest.param(
            record(a={**COUNT, "exclusiveMinimum": 0, "exclusiveMaximum": 6}), {"a": 4},
            "short list", id="above-0-below-6",
        ),
        pytest.param(
            record(name={**TEXT, "examples": ["Ann", "Bo"]}), {"name": "Bo"}, "examples",
            id="second-of-the-examples",
        ),
        pytest.param(
            {**record(name=TEXT), "examples": [{"name": "Ann"}, {"name": "Bo"}]}, {"name": "Bo"},
            "examples", id="second-example-of-the-whole",
        ),
        pytest.param(
            record(a={**COUNT, "minimum": 1, "maximum": 5}), {"a": 4}, "short list", id="1-to-5"
        ),
        pytest.param(record(a={**COUNT, "minimum": 0}), {"a": 4}, None, id="count"),
        pytest.param(record(a=FLAG, b=TEXT), {"a": True, "b": "Ann"}, None, id="boolean-and-text"),
        pytest.param(
            record(a={**TEXT, "pattern": "^[A-Z]{2}$"}), {"a": "LH"}, None, id="pattern"
        ),
        pytest.param(
            record(a={**TEXT, "format": "date"}), {"a": "2026-02-28"}, None, id="format"
        ),
        pytest.param(
            record(**{f"f{n}": FLAG for n in range(5)}),
            {f"f{n}": n > 2 for n in range(5)}, None, id="five-booleans",
        ),
    ],
)  # fmt: skip
def test_a_gold_that_a_reply_meets_without_the_passage_is_named(
    schema: dict[str, Any], gold: dict[str, Any], says: str | None
) -> None:
    fault = TASK.gold_fault(TASK.example({**ROW, "schema": schema, "gold": gold}, "row"))
    assert (fault is None) == (says is None)
    assert says is None or (fault is not None and says in fault and "\n" not in fault)


def test_every_text_of_a_generated_gold_stands_in_its_row() -> None:
    rows = list(generated(400, seed=1))
    for number, row in enumerate(rows):
        assert number % 8 or TASK.gold_fault(TASK.example(row, f"row-{number}")) is None
        for text in texts(list(row["gold"].values())):
            assert text in row["text"] + str(row["schema"]) or read_moment(text), row
    assert len({str(row["schema"]) for row in rows}) > 100


def test_easy_rows_are_short() -> None:
    rows = list(islice(generated(300, seed=1, level="easy"), 300))
    assert max(len(row["text"].split()) for row in rows) <= 60
    assert max(len(json.dumps(row["gold"])) for row in rows) <= 60
    words = Counter(word for row in rows for word in re.findall("[A-Za-z]+", row["text"]))
    assert len(words) < 200


def test_what_stands_first_in_the_passage_is_rarely_the_answer() -> None:
    """A reply that fills the schema with the first number and names of the passage."""
    rows, right = list(generated(300, seed=4)), 0
    for row in rows:
        example = TASK.example(row, "row")
        numbers = [int(number) for number in re.findall(r"\b\d+\b", row["text"])]
        names = re.findall(r"\b[A-Z][a-z]+(?: [A-Z][a-z]+)?", row["text"])
        first = {
            name: numbers[0] if part.get("type") == "integer" and numbers else names[0]
            for name, part in row["schema"]["properties"].items()
        }
        right += TASK.grade(render("First.", json.dumps(first)), example).strict_correct
    assert right <= len(rows) * 0.05
