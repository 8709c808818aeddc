"""A result says which items it is of."""

from hashlib import sha256

import pytest

from xmlgrpo_evaluator.setup.items import digest_of, graded_data
from xmlgrpo_evaluator.setup.models import any_model
from xmlgrpo_evaluator.setup.settings import Settings
from xmlgrpo_evaluator.setup.tasks import find_tasks
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.tasks.gsm8k import TASK

ROW = '{"question": "q", "answer": "#### 1"}\n'
OURS = {"metadata": {"rewards_task": "gsm8k", "data_variable": "SOME_DIR"}}
PLATINUM = {"metadata": {**OURS["metadata"], "dataset": "some/platinum"}}
STOCK = {"dataset_path": "openai/gsm8k"}


@pytest.fixture(autouse=True)
def no_data_in_the_environment(monkeypatch):
    for name in ("GSM8K_DIR", "GSM8K_PLATINUM_DIR", "SOME_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("config", "name", "revision"),
    [
        pytest.param(OURS, "openai/gsm8k", TASK.dataset_revision, id="ours-at-its-commit"),
        pytest.param(PLATINUM, "some/platinum", None, id="a-variant"),
        pytest.param(STOCK, "openai/gsm8k", None, id="stock"),
        pytest.param({"dataset_path": "allenai/ai2_arc"}, "allenai/ai2_arc", None, id="other"),
    ],
)
def test_without_local_items_it_is_the_hub(config, name, revision):
    data = graded_data(config, None)
    assert (data.source, data.name, data.revision, data.sha256) == ("hub", name, revision, None)
    assert digest_of([data]) is None


@pytest.mark.parametrize("config", [OURS, STOCK], ids=["ours", "stock-gsm8k"])
@pytest.mark.parametrize("way", ["file", "folder", "environment"])
def test_local_items_are_named_by_file_and_digest(config, way, tmp_path, monkeypatch):
    (tmp_path / "test.jsonl").write_text(ROW, encoding="utf-8")
    named = {"file": tmp_path / "test.jsonl", "folder": tmp_path}.get(way)
    if way == "environment":
        monkeypatch.setenv("SOME_DIR", str(tmp_path))
        monkeypatch.setenv("GSM8K_DIR", str(tmp_path))
    data = graded_data(config, named)
    assert (data.source, data.name, data.revision) == ("files", "test.jsonl", None)
    assert data.sha256 == sha256(ROW.encode()).hexdigest() == digest_of([data, data])


def test_what_the_user_names_wins_over_the_environment(tmp_path, monkeypatch):
    mine = tmp_path / "mine.jsonl"
    mine.write_text(ROW, encoding="utf-8")
    monkeypatch.setenv("SOME_DIR", str(tmp_path / "nowhere"))
    assert graded_data(OURS, mine).name == "mine.jsonl"


def test_a_variable_with_nothing_behind_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"SOME_DIR=.*nowhere.*test\.jsonl"):
        graded_data(OURS, None)


def test_other_items_in_the_environment_are_another_evaluation(tmp_path, monkeypatch):
    model = any_model("org/name", adapter=None, tokenizer=None, backend=None)
    digests = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test.jsonl").write_text(ROW.replace("q", name, 1), encoding="utf-8")
        monkeypatch.setenv("GSM8K_DIR", str(tmp_path / name))
        with find_tasks(model, Settings()) as found:
            digests.append(found.data_digest)
    assert None not in digests
    assert len(set(digests)) == 2


def test_platinum_has_a_folder_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "test.jsonl").write_text(ROW, encoding="utf-8")
    monkeypatch.setenv("GSM8K_PLATINUM_DIR", str(tmp_path))
    model = any_model("org/name", adapter=None, tokenizer=None, backend=None)
    tasks = ("gsm8k_xml", "gsm8k_xml_platinum")
    with find_tasks(model, Settings(tasks=tasks)) as found:
        assert found.data["gsm8k_xml"].source == "hub"
        assert found.data["gsm8k_xml_platinum"].sha256 == sha256(ROW.encode()).hexdigest()
