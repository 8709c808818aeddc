"""Right queries in any dress, wrong ones that look right, and which query is a reply's."""

import pytest

from xmlgrpo_rewards import reply
from xmlgrpo_tasks.sql import TASK
from xmlgrpo_tasks.sql.grading import query_in

from .problems import KINDS, NAMES, PETS, SORTED, SUMS, WEIGHTS, problem

RIGHT, LENIENT, WRONG = (True, True), (False, True), (False, False)
FIRST_NAME = problem("SELECT MIN(name) FROM pets")
FIRST_KEY = problem(
    "SELECT name FROM pets ORDER BY id LIMIT 1",
    schema="CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT)",
    data=[
        "INSERT INTO pets VALUES (1, 'Ada'), (2, 'Ben')",
        "INSERT INTO pets VALUES (1, 'Eva'), (2, 'Gus')",
    ],
)
COUNTED = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT"
BOTH = problem("SELECT name, kind FROM pets WHERE age > 2")
OLDEST = problem("SELECT name FROM pets ORDER BY age DESC, name LIMIT 1", ordered=False)


@pytest.mark.parametrize(
    ("example", "query", "expected", "note"),
    [
        # the same in other words
        pytest.param(NAMES, "SELECT name FROM pets WHERE NOT age <= 2", RIGHT, "", id="not"),
        pytest.param(NAMES, "select NAME from PETS where AGE>2", RIGHT, "", id="case"),
        pytest.param(NAMES, 'SELECT "name" FROM [pets] WHERE `age` > 2', RIGHT, "", id="quoted"),
        pytest.param(
            NAMES, "SELECT p.name AS n FROM pets p WHERE p.age > 2", RIGHT, "", id="alias"
        ),
        pytest.param(
            NAMES,
            "SELECT name FROM pets WHERE age > 2 ORDER BY name DESC",
            RIGHT,
            "",
            id="any order",
        ),
        pytest.param(
            NAMES,
            "SELECT name FROM pets WHERE name IN (SELECT name FROM pets WHERE age > 2)",
            RIGHT,
            "",
            id="subquery",
        ),
        pytest.param(
            NAMES,
            "SELECT a.name FROM pets a JOIN pets b ON a.name = b.name WHERE b.age > 2",
            RIGHT,
            "",
            id="join",
        ),
        pytest.param(
            KINDS,
            "WITH k AS (SELECT kind FROM pets) SELECT kind, COUNT(*) FROM k GROUP BY 1",
            RIGHT,
            "",
            id="cte",
        ),
        pytest.param(
            KINDS,
            "SELECT DISTINCT kind, COUNT(*) OVER (PARTITION BY kind) FROM pets",
            RIGHT,
            "",
            id="window",
        ),
        pytest.param(
            SORTED,
            "SELECT name FROM pets WHERE age > 2 ORDER BY age DESC, name",
            RIGHT,
            "",
            id="the same order",
        ),
        pytest.param(
            SORTED,
            "SELECT name FROM pets WHERE age > 2 ORDER BY -age, name COLLATE NOCASE",
            RIGHT,
            "",
            id="another key",
        ),
        # numbers by value, texts and NULL as they are
        pytest.param(SUMS, "SELECT TOTAL(age), AVG(weight) FROM pets", RIGHT, "", id="30.0 for 30"),
        pytest.param(
            SUMS,
            "SELECT SUM(age), SUM(weight) / COUNT(weight) FROM pets",
            RIGHT,
            "",
            id="last digits",
        ),
        pytest.param(
            SUMS,
            "SELECT SUM(age) + 0.3 - 0.1 - 0.2, AVG(weight) FROM pets",
            RIGHT,
            "",
            id="0.1 + 0.2",
        ),
        pytest.param(
            SUMS,
            "SELECT CAST(SUM(age) AS TEXT), AVG(weight) FROM pets",
            WRONG,
            "wrong on 2",
            id="'30' for 30",
        ),
        pytest.param(
            SUMS,
            "SELECT SUM(age), ROUND(AVG(weight), 1) FROM pets",
            WRONG,
            "wrong on 2",
            id="rounded",
        ),
        pytest.param(
            SUMS, "SELECT SUM(age) + 1, AVG(weight) FROM pets", WRONG, "wrong on 2", id="one more"
        ),
        pytest.param(
            WEIGHTS, "SELECT COALESCE(weight, 0) FROM pets", WRONG, "wrong on 2", id="0 for NULL"
        ),
        pytest.param(
            WEIGHTS, "SELECT COALESCE(weight, '') FROM pets", WRONG, "wrong on 2", id="'' for NULL"
        ),
        pytest.param(
            WEIGHTS,
            "SELECT weight FROM pets WHERE weight = weight",
            WRONG,
            "wrong on 2",
            id="NULL left out",
        ),
        pytest.param(
            WEIGHTS,
            "SELECT weight FROM pets WHERE weight",
            WRONG,
            "wrong on 2",
            id="as a condition",
        ),
        pytest.param(
            NAMES,
            "SELECT CAST(name AS BLOB) FROM pets WHERE age > 2",
            WRONG,
            "wrong on 2",
            id="blob for text",
        ),
        pytest.param(
            NAMES,
            "SELECT name || ' ' FROM pets WHERE age > 2",
            WRONG,
            "wrong on 2",
            id="space after",
        ),
        pytest.param(
            NAMES,
            "SELECT upper(name) FROM pets WHERE age > 2",
            WRONG,
            "wrong on 2",
            id="upper case",
        ),
        # rows
        pytest.param(
            NAMES,
            "SELECT DISTINCT name FROM pets WHERE age > 2",
            RIGHT,
            "",
            id="distinct of unique",
        ),
        pytest.param(
            problem("SELECT kind FROM pets"),
            "SELECT DISTINCT kind FROM pets",
            WRONG,
            "wrong on 2",
            id="duplicates gone",
        ),
        pytest.param(
            problem("SELECT kind FROM pets"),
            "SELECT CASE WHEN name IN ('Ben', 'Finn') THEN 'cat' ELSE kind END FROM pets",
            WRONG,
            "wrong on 2",
            id="as many rows, another one twice",
        ),
        pytest.param(
            problem("SELECT DISTINCT kind FROM pets"),
            "SELECT kind FROM pets",
            WRONG,
            "wrong on 2",
            id="duplicates",
        ),
        pytest.param(
            NAMES, "SELECT name FROM pets WHERE age >= 2", WRONG, "wrong on 1", id="boundary"
        ),
        pytest.param(NAMES, "SELECT name FROM pets", WRONG, "wrong on 1", id="all"),
        pytest.param(
            NAMES, "SELECT name FROM pets WHERE age > 2 LIMIT 3", WRONG, "wrong on 1", id="limit"
        ),
        pytest.param(
            NAMES,
            "SELECT 'Ada' UNION SELECT 'Ben' UNION SELECT 'Cleo' UNION SELECT 'Dan'",
            WRONG,
            "wrong on 1",
            id="typed out",
        ),
        pytest.param(
            SORTED,
            "SELECT name FROM pets WHERE age >= 3 ORDER BY age DESC",
            WRONG,
            "wrong on 1",
            id="ties left open",
        ),
        pytest.param(
            SORTED, "SELECT name FROM pets WHERE age >= 3", WRONG, "wrong on 2", id="no order"
        ),
        pytest.param(
            SORTED,
            "SELECT name FROM pets WHERE age >= 3 ORDER BY age, name",
            WRONG,
            "wrong on 2",
            id="other way round",
        ),
        pytest.param(
            problem("SELECT name FROM pets ORDER BY name"),
            "SELECT name FROM pets",
            WRONG,
            "wrong on 1",
            id="as the rows lie",
        ),
        pytest.param(
            FIRST_NAME, "SELECT name FROM pets LIMIT 1", WRONG, "wrong on 1", id="the first row"
        ),
        pytest.param(
            FIRST_KEY, "SELECT name FROM pets LIMIT 1", WRONG, "wrong on 1", id="the first by key"
        ),
        # what goes beyond a limit
        pytest.param(
            NAMES, f"{COUNTED} 1001) SELECT i FROM n", WRONG, "more than 1,000 rows", id="rows"
        ),
        pytest.param(
            NAMES,
            f"{COUNTED} 900) SELECT i, '{'x' * 2000}' FROM n",
            WRONG,
            "more than 1,000 rows or 1,048,576 bytes",
            id="bytes",
        ),
        pytest.param(
            NAMES,
            "SELECT COUNT(*) FROM sqlite_master",
            WRONG,
            "not authorized",
            id="how many tables",
        ),
        pytest.param(
            OLDEST,
            "SELECT name FROM pets WHERE age = (SELECT MAX(age) FROM pets)",
            RIGHT,
            "",
            id="record",
        ),
        # columns
        pytest.param(
            BOTH,
            "SELECT kind, name FROM pets WHERE age > 2",
            LENIENT,
            "wrong on 2",
            id="columns exchanged",
        ),
        pytest.param(
            KINDS,
            "SELECT COUNT(*), kind FROM pets GROUP BY kind",
            LENIENT,
            "wrong on 2",
            id="columns exchanged, grouped",
        ),
        pytest.param(
            BOTH,
            "SELECT name, name FROM pets WHERE age > 2",
            WRONG,
            "wrong on 2",
            id="column twice",
        ),
        pytest.param(
            BOTH,
            "SELECT name, kind, age FROM pets WHERE age > 2",
            WRONG,
            "3 columns instead of 2",
            id="one more column",
        ),
        pytest.param(
            BOTH,
            "SELECT name FROM pets WHERE age > 2",
            WRONG,
            "1 columns instead of 2",
            id="one column less",
        ),
        # what is computed from what is given is right, what time or chance decide is refused
        pytest.param(
            problem("SELECT name, '2024-03-01' FROM pets"),
            "SELECT name, date('2024-02-28', '+2 days') FROM pets",
            RIGHT,
            "",
            id="date",
        ),
        pytest.param(
            NAMES,
            "SELECT name FROM pets WHERE age > 2 AND date('now') > '2000'",
            WRONG,
            "present time",
            id="now",
        ),
        pytest.param(
            NAMES,
            "SELECT name FROM pets WHERE age > 2 AND random() IS NOT NULL",
            WRONG,
            "not authorized",
            id="random",
        ),
    ],
)
def test_a_query_is_worth_what_it_gives_on_every_database(example, query, expected, note):
    grade = TASK.grade(reply.render("Look.", query), example)
    assert (grade.strict_correct, grade.lenient_correct) == expected
    assert note in grade.note
    assert bool(grade.note) == (expected != RIGHT)


@pytest.mark.parametrize(
    ("text", "sql", "bare", "in_block"),
    [
        pytest.param(reply.render("x", "SELECT 1"), "SELECT 1", True, True, id="bare"),
        pytest.param(
            reply.render("x", "-- it\nSELECT 1"), "-- it\nSELECT 1", True, True, id="comment"
        ),
        pytest.param(
            reply.render("x", "SELECT ';'"), "SELECT ';'", True, True, id="semicolon in a text"
        ),
        pytest.param(reply.render("x", "SELECT 1;"), "SELECT 1", False, True, id="semicolon"),
        pytest.param(
            reply.render("x", "```SQL\nSELECT 1;\n```"), "SELECT 1", False, True, id="fence"
        ),
        pytest.param(
            reply.render("x", "DROP TABLE t; SELECT 1"),
            "DROP TABLE t; SELECT 1",
            True,
            True,
            id="two",
        ),
        pytest.param(reply.render("x", "It is SELECT 1."), "SELECT 1", False, False, id="sentence"),
        pytest.param("So:\n```sql\nSELECT 1\n```\nDone.", "SELECT 1", False, False, id="no form"),
        pytest.param("SELECT 1;\nbetter:\nSELECT 2;", "SELECT 2", False, False, id="the last"),
        pytest.param(
            "With care:\nWITH a AS (SELECT 1) SELECT * FROM a",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            False,
            False,
            id="with",
        ),
        pytest.param("EXPLAIN SELECT 1", "EXPLAIN SELECT 1", False, False, id="explain"),
        pytest.param("SELECT 1\n\nThat selects one.", "SELECT 1", False, False, id="words after"),
    ],
)
def test_the_query_of_a_reply(text, sql, bare, in_block):
    assert query_in(reply.parse(text)) == (sql, bare, in_block)


def test_a_query_that_runs_earns_a_little_and_what_is_half_right_no_more():
    half = TASK.grade(reply.render("x", "SELECT name FROM pets"), NAMES)
    assert half.share == 0.5
    assert half.parts == {"executes"}
    assert [pay(half) for pay in TASK.rewards.values()] == [0.0, 0.25]
    right = TASK.grade(reply.render("x", NAMES.gold), NAMES)
    assert (right.share, right.note, right.answer) == (1.0, "", NAMES.gold)
    assert [pay(right) for pay in TASK.rewards.values()] == [2.0, 0.25]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        pytest.param({"gold": "SELECT missing FROM pets"}, "no such column: missing", id="gold"),
        pytest.param({"schema": "CREATE TABLE pets (name TEXT)"}, "cannot be built", id="all data"),
        pytest.param({"data": [PETS["data"][0], "INSERT INTO x VALUES (1)"]}, "built", id="second"),
    ],
)
@pytest.mark.parametrize("query", ["SELECT missing FROM pets", "SELECT name FROM pets", "SELECT 1"])
def test_a_row_that_cannot_be_used_pays_nobody(fields, why, query):
    example = problem(**{"gold": "SELECT name FROM pets", **fields})
    grade = TASK.grade(reply.render("x", query), example)
    assert not grade.strict_correct
    assert not grade.lenient_correct
    assert grade.share == 0.0
    assert "the gold cannot be used: " in grade.note
    assert why in grade.note
    assert not any(pay(grade) for pay in TASK.rewards.values())
