"""When two JSON values are the same, by the mode of their place."""

from decimal import Decimal
from typing import Any

import pytest

from xmlgrpo_tasks.json_qa.leaves import leaves, shared


@pytest.mark.parametrize(
    ("mode", "gold", "same", "other"),
    [
        pytest.param("exact", 1, [1], [Decimal(1), True, "1", None, 2, [1]], id="whole-number"),
        pytest.param("exact", Decimal("2.5"), [Decimal("2.50")], ["2.5", 2], id="decimal"),
        pytest.param("exact", True, [True], [1, "true", None, False], id="boolean"),
        pytest.param("exact", None, [None], ["", 0, False, [], {}, "null"], id="null"),
        pytest.param("exact", "é", ["e\u0301"], ["É", "e", "é "], id="text-in-nfc"),
        pytest.param("exact", "Ann", ["Ann"], ["ann", "Аnn", "Ann\u200b", "Ann "], id="text"),
        pytest.param("exact", [1, 2], [[1, 2]], [[2, 1], [1, 2, 2], [1], {"0": 1}], id="list"),
        pytest.param("exact", [], [[]], [{}, None, "", [None], [[]]], id="empty-list"),
        pytest.param("exact", {"a": [1]}, [{"a": [1]}], [{"a": {"0": 1}}, {"a": 1}], id="object"),
        pytest.param(
            "number", 30, [30, Decimal("30.0"), Decimal("3e1")], [True, "30", Decimal("30.1")],
            id="number",
        ),
        pytest.param(
            "number", Decimal("0.1"), [Decimal("1e-1")], [Decimal("0.10000000000000000001")],
            id="number-almost",
        ),
        pytest.param(
            "date", "2026-05-08", ["8 May 2026", "May 8th, 2026", "2026-05-08 ", "20260508"],
            ["05/08/2026", "8.5.2026", "2026-05-09", "8 Mai 2026", "2026-05-08T00:00:00", ""],
            id="date",
        ),
        pytest.param(
            "date", "2026-05-08T10:00:00Z", ["2026-05-08T12:00:00+02:00", "2026-05-08T10:00:00.0Z"],
            ["2026-05-08T10:00:00", "2026-05-08"],
            id="moment",
        ),
        pytest.param(
            "text-fold", "Straße 1", ["STRASSE  1", "straße １", "\tStraße 1\n"],
            ["Strase 1", "Straße1", "Straße 1."],
            id="text-fold",
        ),
        pytest.param("set", [1, 2, 2], [[2, 1, 2]], [[1, 2], [1, 1, 2], [1, 2, 2, 2]], id="set"),
        pytest.param(
            "set", [{"a": 1, "b": 2}, {"a": 3}], [[{"a": 3}, {"b": 2, "a": 1}]],
            [[{"a": 1}, {"a": 3, "b": 2}], [{"a": 1, "b": 2}], {"a": 1}],
            id="set-of-objects",
        ),
    ],
)  # fmt: skip
def test_a_mode_says_what_is_the_same(
    mode: str, gold: Any, same: list[Any], other: list[Any]
) -> None:
    def at(value: Any) -> Any:
        return leaves({"at": value}, {"/at": mode})

    assert [value for value in same if at(value) != at(gold)] == []
    assert [value for value in other if at(value) == at(gold)] == []


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        pytest.param("/a/*/b", {"a": [{"b": 1}, {"b": 2}]}, id="any-place"),
        pytest.param("/a/1/b", {"a": [{"b": Decimal(1)}, {"b": 2}]}, id="one-place"),
        pytest.param("/a~1b/~0", {"a/b": {"~": 3}}, id="escaped"),
    ],
)
def test_a_pointer_names_the_place(pointer: str, value: Any) -> None:
    def as_decimals(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: as_decimals(inner) for key, inner in part.items()}
        if isinstance(part, list):
            return [as_decimals(inner) for inner in part]
        return Decimal(part)

    modes = {pointer: "number"}
    assert leaves(value, modes) == leaves(as_decimals(value), modes)
    assert leaves(value, {}) != leaves(as_decimals(value), {})


@pytest.mark.parametrize(
    ("found", "share"),
    [
        pytest.param({"a": 1, "b": [1, 2]}, 1.0, id="all"),
        pytest.param({}, 0.0, id="empty"),
        pytest.param({"a": 1}, 2 / 4, id="one-of-three"),  # 2 * 1 / (1 + 3)
        pytest.param({"a": 1, "b": [1, 2], "c": 0}, 6 / 7, id="one-too-many"),
    ],
)
def test_the_share_counts_what_is_missing_and_what_is_too_much(found: Any, share: float) -> None:
    assert shared(leaves(found, {}), leaves({"a": 1, "b": [1, 2]}, {})) == share


@pytest.mark.parametrize(
    ("one", "other", "modes"),
    [
        pytest.param(1, True, {"/a": "number"}, id="true for the number 1"),
        pytest.param([["x"]], [["x", "x"]], {"/a": "set", "/a/*": "set"}, id="twice, inside"),
    ],
)
def test_what_looks_equal_and_is_not(one: Any, other: Any, modes: dict[str, str]) -> None:
    assert leaves({"a": one}, modes) != leaves({"a": other}, modes)
