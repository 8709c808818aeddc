"""What is one JSON value, and what is refused where readers of JSON disagree."""

from decimal import Decimal

import pytest

from xmlgrpo_tasks.json_qa.text import NotJson, read_json, read_object


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("30", 30, id="whole-number"),
        pytest.param("-0", 0, id="minus-zero"),
        pytest.param("30.0", Decimal(30), id="decimal"),
        pytest.param("3e1", Decimal(30), id="exponent"),
        pytest.param("1E308", Decimal("1e308"), id="largest-exponent"),
        pytest.param("0e999", Decimal(0), id="zero-with-an-exponent"),
        pytest.param('"\\ud83d\\ude00"', "😀", id="pair-escaped"),
        pytest.param(' \n{"a": [true, null]}\t', {"a": [True, None]}, id="white-space"),
        pytest.param('{"a": {"b": 1}, "b": {"b": 2}}', {"a": {"b": 1}, "b": {"b": 2}}, id="keys"),
        pytest.param('{"": {"[": "]}"}}', {"": {"[": "]}"}}, id="brackets-in-texts"),
        pytest.param("[" * 32 + "]" * 32, None, id="32-levels"),
    ],
)
def test_one_json_value_is_read(text: str, value: object) -> None:
    read = read_json(text)
    assert value is None or (read == value and type(read) is type(value))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("NaN", "NaN is no JSON number", id="nan"),
        pytest.param("[-Infinity]", "-Infinity is no JSON number", id="infinity"),
        pytest.param("1e999", "too long, large or small", id="infinite"),
        pytest.param("1e-999", "too long, large or small", id="zero-to-others"),
        pytest.param("1e99999999999999999999", "too long", id="beyond-decimal"),
        pytest.param("9" * 5000, "a number of 5,000 characters", id="5000-digits"),
        pytest.param('{"a": 1, "a": 1}', "the key 'a' stands twice", id="key-twice"),
        pytest.param('{"a": 1, "\\u0061": 2}', "the key 'a' stands twice", id="key-twice-escaped"),
        pytest.param('"\\ud800"', "half a character", id="surrogate-escaped"),
        pytest.param('{"\\udc00": 1}', "half a character", id="surrogate-in-a-key"),
        pytest.param('"\ud800"', "half a character", id="surrogate"),
        pytest.param('["\\u0000"]', "NUL", id="nul-escaped"),
        pytest.param('"\0"', "control character", id="nul"),
        pytest.param('"a' + "\u0301\u0316" * 4000 + '"', "combining marks", id="marks"),
        pytest.param('"a' + "\\u0301" * 31 + '"', "combining marks", id="marks-escaped"),
        pytest.param("\ufeff{}", "BOM", id="byte-order-mark"),
        pytest.param("[" * 100_000, "over 8,192 characters", id="100-kB-of-brackets"),
        pytest.param("[" * 4000 + "]" * 4000, "values", id="8-kB-of-brackets"),
        pytest.param("[" * 60 + "]" * 60, "nested more than 32 deep", id="60-levels"),
        pytest.param('{"a":' * 60, "nested more than 32 deep", id="cut-off"),
        pytest.param("[0" + ",0" * 600 + "]", "over 256 values", id="600-values"),
        pytest.param("{'a': 1}", "double quotes", id="single-quotes"),
        pytest.param('{"a": 1,}', "", id="trailing-comma"),
        pytest.param('{"a": 1} {"a": 1}', "Extra data", id="two-objects"),
        pytest.param('{"a": 1} // yes', "Extra data", id="comment"),
        pytest.param("３０", "", id="full-width-digits"),
        pytest.param("", "", id="empty"),
    ],
)
def test_anything_else_is_refused_and_says_why(text: str, why: str) -> None:
    with pytest.raises(NotJson) as refused:
        read_json(text)
    assert why in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["[]", "1", "null", '"{}"'])
def test_an_answer_is_an_object(text: str) -> None:
    with pytest.raises(NotJson, match="expected a JSON object"):
        read_object(text)
