"""What equals what, and what a hostile text may be."""

from collections import Counter, OrderedDict
from typing import NamedTuple

import pytest

from xmlgrpo_tasks.code.values import NotPlain, pack, read, same, unpack


@pytest.mark.parametrize(
    ("expected", "got", "right"),
    [
        pytest.param(1, 1, True, id="int"),
        pytest.param(1, 1.0, False, id="float for int"),
        pytest.param(1, True, False, id="bool for int"),
        pytest.param(True, 1, False, id="int for bool"),
        pytest.param(1.0, 1, True, id="int for float"),
        pytest.param(1.0, True, False, id="bool for float"),
        pytest.param(0.3, 0.1 + 0.2, True, id="rounding"),
        pytest.param(1e-3, 1.001e-3, False, id="near"),
        pytest.param(0.0, 1e-7, False, id="near zero"),
        pytest.param(1.0, 10**400, False, id="int beyond float"),
        pytest.param(None, None, True, id="none"),
        pytest.param(None, 0, False, id="zero for none"),
        pytest.param("1", 1, False, id="int for text"),
        pytest.param([1, 2], (1, 2), True, id="tuple for list"),
        pytest.param((1, [2]), [1, (2,)], True, id="list for tuple"),
        pytest.param([1, 2], [2, 1], False, id="order"),
        pytest.param([1], [1, 1], False, id="length"),
        pytest.param([1], {1}, False, id="set for list"),
        pytest.param({1, 2}, {2, 1}, True, id="set"),
        pytest.param({1}, {True}, False, id="set of bool"),
        pytest.param({1}, {1: 1}, False, id="dict for set"),
        pytest.param({"a": [1]}, {"a": (1,)}, True, id="dict"),
        pytest.param({1: 2}, {True: 2}, False, id="key of another type"),
        pytest.param({1: 2}, {1: 2.0}, False, id="value of another type"),
        pytest.param({"a": 1}, {"a": 1, "b": 2}, False, id="more keys"),
        pytest.param([True], [1], False, id="inside"),
    ],
)
def test_same(expected, got, right):
    assert same(expected, got) is right
    assert same(unpack(pack(expected)), unpack(pack(got))) is right


class Pair(NamedTuple):
    left: int
    right: int


@pytest.mark.parametrize(
    ("value", "packed"),
    [
        pytest.param((1, (2,)), {"$tuple": [1, {"$tuple": [2]}]}, id="tuple"),
        pytest.param({3}, {"$set": [3]}, id="set"),
        pytest.param(frozenset({3}), {"$set": [3]}, id="frozenset"),
        pytest.param({1: "a"}, {"$dict": [[1, "a"]]}, id="dict with numbers"),
        pytest.param({"$set": 1}, {"$dict": [["$set", 1]]}, id="dict with a reserved key"),
        pytest.param(Counter("aa"), {"a": 2}, id="counter"),
        pytest.param(OrderedDict(a=1), {"a": 1}, id="ordered"),
        pytest.param(Pair(1, 2), {"$tuple": [1, 2]}, id="named tuple"),
        pytest.param("\ud800", "\ud800", id="lone surrogate"),
    ],
)
def test_pack(value, packed):
    assert pack(value) == packed


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="nan"),
        pytest.param(float("-inf"), id="infinity"),
        pytest.param(10**5000, id="digits"),
        pytest.param(1j, id="complex"),
        pytest.param(b"", id="bytes"),
        pytest.param(range(2), id="range"),
        pytest.param(object(), id="object"),
        pytest.param(iter(()), id="iterator"),
        pytest.param(int, id="class"),
        pytest.param(..., id="ellipsis"),
    ],
)
def test_what_is_not_plain(value):
    with pytest.raises(NotPlain):
        pack([value])


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("NaN", id="nan"),
        pytest.param("1e999", id="infinite"),
        pytest.param("9" * 5000, id="digits"),
        pytest.param(DEEP, id="deep"),
        pytest.param('{"$tuple":' * 20_000, id="deep objects"),
        pytest.param("[" * 900 + "]" * 900, id="deep enough"),
        pytest.param('"' + "x" * (1 << 19) + '"', id="long"),
        pytest.param('{"$set": [[1]]}', id="unhashable"),
        pytest.param('{"$set": 1}', id="no list"),
        pytest.param('{"$dict": [1]}', id="no pairs"),
        pytest.param('{"$other": []}', id="another word"),
        pytest.param('{"$set": [' + "1," * 3000 + "1]}", id="many keys"),
    ],
)
def test_what_is_not_read(text):
    with pytest.raises(ValueError, match=r"."):
        read(text)
