"""Rows whose gold cannot be trusted, or whose databases cannot tell."""

import pytest

from xmlgrpo_tasks.sql import TASK
from xmlgrpo_tasks.sql.gold import mutants

from .problems import KINDS, NAMES, PETS, SORTED, problem

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n"


@pytest.mark.parametrize("example", [NAMES, KINDS, SORTED], ids=["list", "group", "order"])
def test_a_sound_row_has_no_fault(example):
    assert TASK.gold_fault(example) is None


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        pytest.param("SELECT missing FROM pets", "no such column: missing", id="fails"),
        pytest.param("SELECT name FROM cats", "no such table: cats", id="no table"),
        pytest.param(ENDLESS, "more than 2,000,000 steps", id="slow"),
        pytest.param("SELECT random() FROM pets", "not authorized to use function", id="chance"),
        pytest.param("SELECT name FROM pets WHERE date() > '2000'", "present time", id="time"),
        pytest.param("SELECT name FROM sqlite_master", "prohibited", id="schema table"),
        pytest.param(
            "SELECT name FROM pets WHERE age > 99", "finds no row in any of the 2", id="empty"
        ),
        pytest.param("SELECT MAX(age) > 1 FROM pets", "a constant would be paid", id="constant"),
        pytest.param(
            "SELECT MIN(age) FROM pets WHERE kind = 'dog' OR age = 3",
            "a constant",
            id="the same",
        ),
        pytest.param(
            "SELECT name FROM pets ORDER BY age", "tables are filled in another order", id="ties"
        ),
        pytest.param("SELECT name FROM pets LIMIT 1", "filled in another order", id="limit"),
        pytest.param(
            "SELECT group_concat(name) FROM pets", "filled in another order", id="joined text"
        ),
        pytest.param(
            "SELECT name, MAX(kind) FROM pets", "filled in another order", id="any of a group"
        ),
        pytest.param("SELECT name FROM pets WHERE age > 2.5", "(>= for >)", id="boundary"),
        pytest.param("SELECT DISTINCT name FROM pets", "(no DISTINCT)", id="distinct"),
        pytest.param("SELECT name FROM pets WHERE age > 0", "tell", id="where"),
        pytest.param(
            "SELECT name FROM pets WHERE age > 2 AND age < 50", "(no AND age < 50)", id="and"
        ),
        pytest.param(
            "SELECT kind FROM pets GROUP BY kind HAVING COUNT(*) < 9", "(no HAVING)", id="having"
        ),
        pytest.param(
            "SELECT kind, MAX(age) FROM pets WHERE kind = 'fish' GROUP BY kind",
            "(MIN for MAX)",
            id="aggregate",
        ),
        pytest.param(
            "SELECT name FROM pets WHERE age = 3 AND kind = 'cat' OR age = 8 ORDER BY name",
            "(no ORDER BY)",
            id="order of one row",
        ),
        pytest.param(
            "SELECT name FROM pets WHERE age = 3 UNION SELECT kind FROM pets WHERE age = 9",
            "(UNION ALL for UNION)",
            id="union",
        ),
    ],
)
def test_a_row_that_would_teach_the_wrong_thing_is_named(gold, message):
    assert message in (TASK.gold_fault(problem(gold)) or "")


LINED_UP = [
    "INSERT INTO pets VALUES ('Ada', 'cat', 1, 1), ('Ben', 'dog', 2, 2), ('Cleo', 'cat', 3, 3)",
    "INSERT INTO pets VALUES ('Eva', 'cat', 9, 1), ('Finn', 'dog', 8, 2), ('Gus', 'cat', 7, 3)",
]


@pytest.mark.parametrize(
    "gold",
    [
        "SELECT name FROM pets ORDER BY age LIMIT 1",
        "SELECT name FROM pets ORDER BY age",
        "SELECT AVG(weight) FROM (SELECT weight FROM pets ORDER BY age LIMIT 2)",
    ],
)
def test_rows_that_lie_in_the_order_asked_for_cannot_tell(gold):
    """The second database is filled from its end: there, too, the rows are in order."""
    assert "(no ORDER BY)" in (TASK.gold_fault(problem(gold, data=LINED_UP)) or "")
    mixed = [LINED_UP[0].replace("1, 1", "4, 1"), LINED_UP[1].replace("9, 1", "5, 1")]
    assert TASK.gold_fault(problem(gold, data=mixed)) is None


def test_an_order_that_does_not_count_may_be_left_out():
    example = problem("SELECT name FROM pets ORDER BY age", data=LINED_UP, ordered=False)
    assert TASK.gold_fault(example) is None


def test_a_schema_that_is_more_than_tables_is_refused():
    schema = PETS["schema"] + "; ATTACH '/tmp/x' AS x"
    assert "cannot be built" in (TASK.gold_fault(problem("SELECT 1", schema=schema)) or "")


def test_data_that_do_not_fit_the_schema_are_refused():
    data = ["INSERT INTO pets VALUES (1)", *PETS["data"]]
    fault = TASK.gold_fault(problem("SELECT name FROM pets", data=data)) or ""
    assert "table pets has 4 columns but 1 values were supplied" in fault


def test_names_that_need_quotes_are_kept():
    data = ['INSERT INTO "order" ([group by]) VALUES (1)', "INSERT INTO `order` VALUES (2), (3)"]
    schema = 'CREATE TABLE "order" ("group by" INTEGER)'
    example = problem('SELECT "group by" FROM "order"', schema=schema, data=data)
    assert TASK.gold_fault(example) is None
    assert "-- order, 1 of 1 rows: (1)" in example.question


def test_mutants_are_one_mistake_away():
    gold = (
        "SELECT DISTINCT a, MAX(b) FROM t WHERE (c > 1 AND d BETWEEN 2 AND 3) OR e IN (SELECT e "
        "FROM u WHERE f <= 4) GROUP BY a HAVING SUM(b) < 5 ORDER BY a DESC LIMIT 6"
    )
    made = dict(mutants(gold, ordered=True))
    assert made["no DISTINCT"].startswith("SELECT  a, MAX(b)")
    assert made["MIN for MAX"].startswith("SELECT DISTINCT a, MIN(b)")
    assert "(c > 1 ) OR" in made["no AND d BETWEEN 2 AND 3"]
    assert made["no LIMIT"].endswith("ORDER BY a DESC ")
    assert made["no ORDER BY"].endswith("HAVING SUM(b) < 5  LIMIT 6")
    assert "ORDER BY a ASC LIMIT 6" in made["ASC for DESC"]
    texts = [sql for _, sql in mutants(gold, ordered=True)]
    assert gold.replace(" WHERE f <= 4", " ") in [text.replace("  ", " ") for text in texts]
    assert gold not in texts
    assert len(texts) == len(set(texts))
