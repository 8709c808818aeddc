import random
from pathlib import Path

import pytest
from hypothesis import settings

from xmlgrpo_rewards import Example, Task, get_task
from xmlgrpo_rewards.rows import text_rows

# A busy machine is no fault of the code: how long one example takes is the benchmark's business.
settings.register_profile("here", deadline=None)
settings.load_profile("here")

ROWS = Path(__file__).parent / "fixtures" / "gsm8k.jsonl"


@pytest.fixture(scope="session")
def task() -> Task:
    return get_task("gsm8k")


@pytest.fixture(scope="session")
def rows_path() -> Path:
    """Rows of our own making in GSM8K's form: commas, negatives, a zero, a `####` in the text."""
    return ROWS


@pytest.fixture(scope="session")
def examples(task: Task) -> list[Example]:
    return [task.example(row.fields, row.id) for row in text_rows(ROWS)]


@pytest.fixture
def draw() -> random.Random:
    """The same random texts on every run."""
    return random.Random(7)  # noqa: S311 - draws texts, not keys
