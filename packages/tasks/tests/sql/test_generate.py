"""What generated rows ask."""

from xmlgrpo_tasks.sql import TASK
from xmlgrpo_tasks.sql.generate import EASY_CHARS


def test_an_easy_question_is_short():
    for row in TASK.generated(80, 0, "easy"):
        assert len(row["gold"]) <= EASY_CHARS
        assert row["schema"].count("CREATE") == 1
        assert len(TASK.example(row, "r").question) < 230
        assert "Rex" not in row["question"]


def test_another_seed_has_other_databases():
    first, other = (list(TASK.generated(20, seed)) for seed in (1, 2))
    assert not {row["data"][0] for row in first} & {row["data"][0] for row in other}


def test_every_kind_of_query_comes_up():
    golds = [row["gold"] for row in TASK.generated(200, 4)]
    for part in (
        *("JOIN", "LEFT JOIN", "GROUP BY", "HAVING", "ORDER BY", "LIMIT", "DISTINCT", "IS NULL"),
        *("IS NOT NULL", "NOT IN", "BETWEEN", "(SELECT", "AVG", "SUM", "MAX", "MIN", "COUNT", "OR"),
    ):
        assert any(part in gold for gold in golds), part
