"""Where the questions come from."""

import json

import pytest

from xmlgrpo_exporter.check.questions import BUILT_IN, load_questions
from xmlgrpo_rewards.commands.rows import made_rows
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import get_task
from xmlgrpo_run.folder import RunFolder


def test_questions_come_from_the_nearest_source(tmp_path, monkeypatch):
    monkeypatch.delenv("GSM8K_DIR", raising=False)
    run = RunFolder(tmp_path)
    assert load_questions(None, run).texts == BUILT_IN
    gsm8k = tmp_path / "gsm8k"
    gsm8k.mkdir()
    (gsm8k / "test.jsonl").write_text('{"question": "from gsm8k?", "answer": "#### 1"}\n')
    monkeypatch.setenv("GSM8K_DIR", str(gsm8k))
    assert load_questions(None, run).texts == ("from gsm8k?",)
    run.holdout.mkdir()
    run.holdout_items.write_text('{"question": "held out?"}')
    # of other problems, and sorted before those that the result is of
    run.validation(0).write_text('{"items": [{"question": "for choosing a checkpoint?"}]}')
    assert load_questions(None, run).texts == ("held out?",)
    assert load_questions(gsm8k / "test.jsonl", run).source == "test.jsonl"


def test_another_tasks_rows_are_asked_as_that_task_asks_them(tmp_path, monkeypatch):
    monkeypatch.setenv("GSM8K_DIR", str(tmp_path / "of-another-task"))
    task = get_task("json_qa")
    [row] = made_rows(task, 1, 0)
    run = RunFolder(tmp_path)
    run.holdout.mkdir()
    run.holdout_items.write_text(json.dumps(row))
    [asked] = load_questions(None, run, "json_qa").texts
    assert asked == task.example(row, "x").question != row["question"]
    assert load_questions(None, None, "json_qa").texts == BUILT_IN


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("", "got an empty file", id="empty"),
        pytest.param("{", r"q\.jsonl:1: expected one JSON object", id="not-json"),
        pytest.param('{"q": 1}', '"question" that is text', id="no-question"),
        pytest.param('{"question": 1}', 'got 1.*"question" that is text', id="a-number"),
    ],
)
def test_broken_question_files(tmp_path, content, expected):
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=expected):
        load_questions(path, None)
