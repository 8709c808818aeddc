"""Where the questions come from."""

import pytest

from xmlgrpo_exporter.check.questions import BUILT_IN, load_questions
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder


def test_questions_come_from_the_nearest_source(tmp_path, monkeypatch):
    monkeypatch.delenv("GSM8K_DIR", raising=False)
    assert load_questions(None, RunFolder(tmp_path)).texts == BUILT_IN
    gsm8k = tmp_path / "gsm8k"
    gsm8k.mkdir()
    (gsm8k / "test.jsonl").write_text('{"question": "from gsm8k?", "answer": "#### 1"}\n')
    monkeypatch.setenv("GSM8K_DIR", str(gsm8k))
    assert load_questions(None, RunFolder(tmp_path)).texts == ("from gsm8k?",)
    (tmp_path / "holdout").mkdir()
    (tmp_path / "holdout" / "before.json").write_text('{"items": [{"question": "held out?"}]}')
    assert load_questions(None, RunFolder(tmp_path)).texts == ("held out?",)
    assert load_questions(gsm8k / "test.jsonl", RunFolder(tmp_path)).source == "test.jsonl"


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"items": [1]}', '{"items": [{}]}'], ids=["half", "list", "1", "{}"]
)
def test_broken_held_out_results(tmp_path, content):
    (tmp_path / "holdout").mkdir()
    (tmp_path / "holdout" / "before.json").write_text(content)
    with pytest.raises(UserError, match=r"before\.json"):
        load_questions(None, RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("{", "line 1: not JSON", id="not-json"),
        pytest.param('{"q": 1}', '"question"', id="no-question"),
    ],
)
def test_broken_question_files(tmp_path, content, expected):
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=expected):
        load_questions(path, None)
