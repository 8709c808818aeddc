"""What is read as a row, what is refused and why."""

import json

import pytest

from xmlgrpo_rewards import BadRow
from xmlgrpo_tasks.sql import TASK
from xmlgrpo_tasks.sql.inserts import NotLiteral, parse_inserts

from .problems import PETS, problem

OURS = {**PETS, "gold": "SELECT name FROM pets WHERE age > 2"}
GRETEL = {
    "id": 39325,
    "sql_context": "CREATE TABLE sales (id INT, shop TEXT, tons REAL); INSERT INTO sales (id, shop,"
    " tons) VALUES (1, 'North; old', 120), (2, 'South', 150), (3, 'South', 180);",
    "sql_prompt": "How many tons did each shop sell?",
    "sql": "SELECT shop, SUM(tons) FROM sales GROUP BY shop;",
    "sql_explanation": "It adds up by shop.",
}


@pytest.mark.parametrize("row", [OURS, {**OURS, "solution": "Filter.", "shown": 0}, GRETEL])
def test_a_row_comes_back_the_same(row):
    example = TASK.example(row, "r:1")
    written = json.loads(json.dumps(TASK.row(example)))
    assert TASK.example(written, "r:1") == example
    assert TASK.gold_fault(example) is None


def test_the_model_sees_the_schema_some_rows_of_one_database_and_the_question():
    asked = TASK.example({**OURS, "question": "Which are older?"}, "r:1").question
    assert asked.startswith(PETS["schema"])
    assert "3 of 4 rows: ('Ada', 'cat', 3, 4.5), ('Ben', 'dog', 7, NULL)" in asked
    assert "Which are older?" in asked
    assert not any(name in asked for name in ("Dan", "Eva", "Finn", "WHERE"))
    assert "Ada" not in problem("SELECT name FROM pets", shown=0).question


def test_a_row_with_one_database_gets_more_always_the_same_ones():
    example = TASK.example(GRETEL, "r:1")
    row = TASK.row(example)
    assert len(row["data"]) == 4
    assert "'North; old'" in row["data"][0]
    assert row["gold"] == "SELECT shop, SUM(tons) FROM sales GROUP BY shop"
    assert example == TASK.example(dict(GRETEL), "r:1")
    assert example.solution == "It adds up by shop."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"gold": None}, "a text in 'gold', got None", id="no gold"),
        pytest.param({"gold": "DELETE FROM pets"}, "one SELECT in 'gold'", id="no query"),
        pytest.param({"gold": "SELECT 1; SELECT 2"}, "one SELECT in 'gold'", id="two queries"),
        pytest.param({"gold": f"SELECT {'1+' * 3000}1"}, "at most 4,096 characters", id="long"),
        pytest.param({"schema": ""}, "a text in 'schema'", id="no schema"),
        pytest.param({"schema": "DROP TABLE a"}, "CREATE TABLE", id="no table"),
        pytest.param({"question": 7}, "a text in 'question', got 7", id="no question"),
        pytest.param({"data": "INSERT"}, "a list of INSERTs", id="no list"),
        pytest.param({"data": PETS["data"][:1]}, "2 to 8 databases in 'data', got 1", id="one"),
        pytest.param({"data": ["SELECT 1", ""]}, "INSERTs of literals alone", id="no INSERT"),
        pytest.param({"data": ["INSERT INTO t VALUES ('\ud800')"] * 2}, "no half", id="half"),
        pytest.param({"ordered": "yes"}, "true or false in 'ordered'", id="ordered"),
        pytest.param({"ordered": True}, "an ORDER BY in the gold", id="ordered without order"),
        pytest.param({"shown": -1}, "a number of rows in 'shown'", id="shown"),
        pytest.param({"solution": 1}, "a text in 'solution'", id="solution"),
    ],
)
def test_what_is_no_row_is_refused_in_a_sentence(change, message):
    with pytest.raises(BadRow, match=r"row t\.jsonl:3: expected") as refused:
        TASK.example({**OURS, **change}, "t.jsonl:3")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"sql": "UPDATE sales SET tons = 1"}, "one SELECT in 'sql'", id="update"),
        pytest.param({"sql_context": "CREATE TABLE t (a INT);"}, "rows to INSERT", id="no rows"),
        pytest.param(
            {"sql_context": "CREATE TABLE t (a INT); INSERT INTO t VALUES (NOW());"},
            "INSERTs of literals alone",
            id="computed",
        ),
        pytest.param({"sql_prompt": " "}, "a text in 'sql_prompt'", id="no question"),
    ],
)
def test_what_the_data_set_has_besides_queries_is_refused(change, message):
    with pytest.raises(BadRow) as refused:
        TASK.example({**GRETEL, **change}, "r:1")
    assert message in str(refused.value)


def test_literals_are_values():
    [one, two] = parse_inserts(
        "insert into \"a b\" (x, [y z]) values (-1, 'it''s'), (+2.5e1, NULL);\n"
        "-- and\nINSERT OR IGNORE INTO t VALUES (TRUE, 9223372036854775808)"
    )
    assert (one.table, one.columns, one.rows) == (
        '"a b"',
        ("x", "[y z]"),
        [[-1, "it's"], [25.0, None]],
    )
    assert (two.rows, two.or_ignore) == ([[1, 9223372036854775808.0]], True)
    assert parse_inserts(one.text()) == [one]


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t SELECT 1",
        "INSERT INTO t VALUES (1, 2), (3)",
        "INSERT INTO t (a, b) VALUES (1)",
        "INSERT INTO t VALUES (1 + 1)",
        "INSERT INTO t VALUES (abs(1))",
        "INSERT INTO t VALUES (x'00')",
        "INSERT INTO t VALUES (1e999)",
        "INSERT INTO t VALUES ('open)",
        "INSERT INTO t VALUES (1) RETURNING *",
        "INSERT INTO t VALUES",
        "INSERT",
        "DELETE FROM t",
    ],
)
def test_nothing_but_literals_is_read(text):
    with pytest.raises(NotLiteral):
        parse_inserts(text)
