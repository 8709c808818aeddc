"""A result says which items it is of."""

from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from pyarrow import Table, parquet

from xmlgrpo_evaluator.models import any_model
from xmlgrpo_evaluator.settings import Evaluation, EvaluationSettings
from xmlgrpo_evaluator.tasks import find_tasks, items_of_task
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_rewards.tasks.gsm8k import TASK

FOLDER = Path(__file__).parents[4] / "eval_tasks"
ROW = '{"question": "q", "answer": "#### 1"}\n'
OURS = {"metadata": {"rewards_task": "gsm8k", "data_variable": "SOME_DIR"}}
PLATINUM = {"metadata": {**OURS["metadata"], "dataset": "some/platinum"}}
STOCK = {"dataset_path": "openai/gsm8k"}
# by name: without it all of lm-eval's tasks are read, seconds each time, as test_stock_tool.py does
STOCK_GSM8K = Path(str(distribution("lm_eval").locate_file("lm_eval/tasks/gsm8k")))


@pytest.fixture(autouse=True)
def no_data_in_the_environment(monkeypatch):
    for name in ("GSM8K_DIR", "GSM8K_PLATINUM_DIR", "SOME_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_lm_evals_version_of_our_tasks_is_that_of_the_reply_form():
    versions = {
        path.name: yaml.safe_load(path.read_text())["metadata"]["version"]
        for path in FOLDER.glob("*_xml/*.yaml")
    }
    assert versions == dict.fromkeys(versions, float(FORMAT_VERSION))
    assert len(versions) > 10


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
    data = items_of_task(config, None)
    assert (data.source, data.name, data.revision, data.sha256) == ("hub", name, revision, None)


@pytest.mark.parametrize("config", [OURS, STOCK], ids=["ours", "stock-gsm8k"])
@pytest.mark.parametrize("way", ["file", "folder", "environment"])
def test_local_items_are_named_by_file_and_digest(config, way, tmp_path, monkeypatch):
    (tmp_path / "test.jsonl").write_text(ROW, encoding="utf-8")
    named = {"file": tmp_path / "test.jsonl", "folder": tmp_path}.get(way)
    if way == "environment":
        monkeypatch.setenv("SOME_DIR", str(tmp_path))
        monkeypatch.setenv("GSM8K_DIR", str(tmp_path))
    data = items_of_task(config, named)
    assert (data.source, data.name, data.revision) == ("files", "test.jsonl", None)
    assert data.sha256 == sha256(ROW.encode()).hexdigest()


def test_what_the_user_names_wins_over_the_environment(tmp_path, monkeypatch):
    mine = tmp_path / "mine.jsonl"
    mine.write_text(ROW, encoding="utf-8")
    monkeypatch.setenv("SOME_DIR", str(tmp_path / "nowhere"))
    assert items_of_task(OURS, mine).name == "mine.jsonl"


def test_a_variable_with_nothing_behind_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"SOME_DIR=.*nowhere.*test\.jsonl"):
        items_of_task(OURS, None)


def test_a_task_that_is_on_no_hub_asks_for_rows(monkeypatch):
    monkeypatch.delenv("SOME_DIR", raising=False)
    own = {"metadata": {"rewards_task": "json_qa", "data_variable": "SOME_DIR"}}
    with pytest.raises(
        UserError, match=r"no data set on the Hub; name its rows: --data FILE, or SO"
    ):
        items_of_task(own, None)


def found(*tasks: str):
    model = any_model("org/name", adapter=None, tokenizer=None, backend=None)
    settings = EvaluationSettings(tasks=tasks, include_path=(STOCK_GSM8K,))
    return find_tasks(Evaluation(model, settings, Path("r.json")))


def test_other_items_in_the_environment_are_another_evaluation(tmp_path, monkeypatch):
    digests = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test.jsonl").write_text(ROW.replace("q", name, 1), encoding="utf-8")
        monkeypatch.setenv("GSM8K_DIR", str(tmp_path / name))
        with found("gsm8k_xml") as tasks:
            digests.append(tasks.data_digest)
    assert None not in digests
    assert len(set(digests)) == 2


def test_platinum_has_a_folder_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "test.jsonl").write_text(ROW, encoding="utf-8")
    monkeypatch.setenv("GSM8K_PLATINUM_DIR", str(tmp_path))
    with found("gsm8k_xml", "gsm8k_xml_platinum") as tasks:
        assert tasks.items["gsm8k_xml"].source == "hub"
        digest = sha256(ROW.encode()).hexdigest()
        assert tasks.items["gsm8k_xml_platinum"].sha256 == tasks.data_digest == digest


@pytest.fixture
def hub_folder(tmp_path):
    """GSM8K as the Hub gives it: two configurations, the test split in two parts."""
    for config in ("main", "socratic"):
        for part in range(2):
            row = {"question": f"{config} {part} + 1?", "answer": f"#### {part + 1}"}
            file = tmp_path / config / f"test-{part:05d}-of-00002.parquet"
            file.parent.mkdir(exist_ok=True)
            parquet.write_table(Table.from_pylist([row]), file)
    return tmp_path


@pytest.mark.filterwarnings("default")  # datasets uses what newer libraries deprecate
@pytest.mark.parametrize("task", ["gsm8k_xml", "gsm8k_cot"])
def test_a_folder_of_the_hub_is_asked_by_ours_and_by_stock_tasks(hub_folder, task, monkeypatch):
    monkeypatch.setenv("GSM8K_DIR", str(hub_folder))
    with found(task) as tasks:
        [loaded] = tasks.load()
        asked = [doc["question"] for doc in loaded.test_docs()]
    assert asked == ["main 0 + 1?", "main 1 + 1?"]
    items, before = tasks.items[task], tasks.data_digest
    assert items.name == "test-00000-of-00002.parquet"
    row = {"question": "another?", "answer": "#### 1"}
    parquet.write_table(
        Table.from_pylist([row]), hub_folder / "main" / "test-00001-of-00002.parquet"
    )
    with found(task) as tasks:
        assert tasks.data_digest != before  # the second part counts


@pytest.mark.parametrize("task", ["gsm8k_xml", "gsm8k_cot"])
def test_a_broken_row_is_named_to_ours_and_to_stock_tasks(tmp_path, task, monkeypatch):
    broken = r'{"question": "\ud83d", "answer": "#### 1"}'
    (tmp_path / "test.jsonl").write_text(f"{ROW}{broken}\n", encoding="utf-8")
    monkeypatch.setenv("GSM8K_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"^test\.jsonl:2: expected text, got half"):  # noqa: SIM117
        with found(task) as tasks:
            tasks.load()
