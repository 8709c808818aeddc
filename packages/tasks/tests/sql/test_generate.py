"""Generated rows: sound, all different, the same for the same seed."""

from itertools import islice

import pytest

from xmlgrpo_rewards import reply
from xmlgrpo_tasks.sql import TASK
from xmlgrpo_tasks.sql.generate import EASY_CHARS


@pytest.mark.parametrize("level", TASK.levels)
def test_every_row_is_sound_and_its_gold_right(level):
    examples = [TASK.example(row, row["id"]) for row in TASK.generated(40, 3, level)]
    assert [TASK.gold_fault(example) for example in examples] == [None] * 40
    texts = [reply.render(example.solution, example.gold) for example in examples]
    assert all(grade.strict_correct for grade in TASK.grade_many(texts, examples))
    assert len({example.question for example in examples}) == 40
    assert all(TASK.example(TASK.row(example), example.id) == example for example in examples)


def test_the_same_seed_gives_the_same_rows_and_another_one_others():
    first, again, other = (list(TASK.generated(20, seed)) for seed in (1, 1, 2))
    assert first == again
    assert not {row["data"][0] for row in first} & {row["data"][0] for row in other}
    assert list(islice(TASK.generated(40, 1), 20)) == first


def test_an_easy_question_is_short():
    for row in TASK.generated(80, 0, "easy"):
        assert len(row["gold"]) <= EASY_CHARS
        assert row["schema"].count("CREATE") == 1
        assert len(TASK.example(row, "r").question) < 230
        assert "Rex" not in row["question"]


def test_every_kind_of_query_comes_up():
    golds = [row["gold"] for row in TASK.generated(200, 4)]
    for part in (
        *("JOIN", "LEFT JOIN", "GROUP BY", "HAVING", "ORDER BY", "LIMIT", "DISTINCT", "IS NULL"),
        *("IS NOT NULL", "NOT IN", "BETWEEN", "(SELECT", "AVG", "SUM", "MAX", "MIN", "COUNT", "OR"),
    ):
        assert any(part in gold for gold in golds), part
