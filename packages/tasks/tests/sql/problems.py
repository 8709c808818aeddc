"""Problems that the tests share."""

from typing import Any

from xmlgrpo_rewards.task import Example
from xmlgrpo_tasks.sql import TASK

PETS: dict[str, Any] = {
    "schema": "CREATE TABLE pets (name TEXT, kind TEXT, age INTEGER, weight REAL)",
    "data": [
        """INSERT INTO pets VALUES ('Ada', 'cat', 3, 4.5), ('Ben', 'dog', 7, NULL),
        ('Cleo', 'cat', 3, 2.0), ('Dan', 'dog', 9, 30.0)""",
        """INSERT INTO pets VALUES ('Eva', 'cat', 8, 4.5), ('Finn', 'dog', 3, 0.1),
        ('Gus', 'fish', 1, 0.2), ('Hana', 'cat', 2, NULL), ('Ivo', 'dog', 3, 12.5)""",
    ],
    "question": "?",
}


def problem(gold: str, **fields: Any) -> Example:
    """A question about the pets whose gold is `gold`."""
    return TASK.example({**PETS, "gold": gold, **fields}, "row")


NAMES = problem("SELECT name FROM pets WHERE age > 2")
KINDS = problem("SELECT kind, COUNT(*) FROM pets GROUP BY kind")
SORTED = problem("SELECT name FROM pets WHERE age >= 3 ORDER BY age DESC, name")
WEIGHTS = problem("SELECT weight FROM pets")
SUMS = problem("SELECT SUM(age), AVG(weight) FROM pets")
