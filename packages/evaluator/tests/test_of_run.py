"""What a run decides: a run of another task than GSM8K asks its own task and its own rows."""

import json
import re
from pathlib import Path

import pytest
from finished_runs import data_of

from xmlgrpo_evaluator.setup.models import any_model
from xmlgrpo_evaluator.setup.of_run import own_items, own_task, result_place, settings_of
from xmlgrpo_evaluator.setup.settings import Settings
from xmlgrpo_evaluator.setup.tasks import find_tasks
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import Data, Place

from .conftest import SETTINGS, command, finish

PAGE = Path(__file__).parents[3] / "docs" / "add-a-task.md"
ROWS = [{"country": "Chad", "capital": "N'Djamena"}, {"country": "Peru", "capital": "Lima"}]


@pytest.fixture
def capitals(tmp_path, monkeypatch) -> None:
    """The task of docs/add-a-task.md, installed as a distribution of somebody else's."""
    site = tmp_path / "site"
    described = site / "capitals_task-1.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: capitals-task\nVersion: 1\n")
    (described / "entry_points.txt").write_text("[xmlgrpo.tasks]\ncapitals = capitals_task:TASK\n")
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (site / "capitals_task.py").write_text(code[0], encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))  # of the ladder's processes
    for name in ("GSM8K_DIR", "CAPITALS_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A finished run of that task on rows in a folder, with held-out rows of its own."""
    folder = RunFolder(tmp_path / "run")
    rows = write_rows(tmp_path / "data" / "train.jsonl", ROWS)
    finish(folder, tmp_path / "base", task="capitals", data=local(rows, folder))
    write_rows(folder.holdout_items, ROWS[:1])
    return folder


def local(rows: Path, folder: RunFolder) -> Data:
    return data_of(source="json", name=rows.name, place=Place.of(rows, folder))


def write_rows(path: Path, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def asked(folder: RunFolder, given: Settings | None = None, *, task: bool = False) -> Settings:
    return settings_of(folder, given or Settings(), task=task, reply_limit=False)


@pytest.mark.usefixtures("capitals")
def test_a_run_asks_its_own_task(run):
    assert own_task(run) == "capitals_xml"
    assert asked(run).tasks == ("capitals_xml",)
    assert result_place(run, "tuned", asked(run)) == run.eval / "tuned.json"
    other = asked(run, Settings(tasks=("gsm8k_xml",)), task=True)
    assert (other.tasks, other.data) == (("gsm8k_xml",), None)
    assert result_place(run, "tuned", other) == run.eval / "tuned-gsm8k_xml.json"


@pytest.mark.usefixtures("capitals")
def test_its_own_rows_in_their_order(run, tmp_path, monkeypatch):
    held_out = run.holdout_items
    assert own_items(run) == held_out
    monkeypatch.setenv("CAPITALS_DIR", str(tmp_path))
    assert own_items(run) is None  # the environment's
    test = write_rows(tmp_path / "data" / "test.jsonl", ROWS)
    assert own_items(run) == test
    mine = write_rows(tmp_path / "mine.jsonl", ROWS)
    assert asked(run, Settings(data=mine)).data == mine


@pytest.mark.usefixtures("capitals")
def test_a_run_and_its_rows_that_were_moved_stay_together(run, tmp_path):
    test = write_rows(tmp_path / "data" / "test.jsonl", ROWS)
    (tmp_path / "moved").mkdir()
    for path in (run.root, test.parent):
        path.rename(tmp_path / "moved" / path.name)
    there = own_items(RunFolder(tmp_path / "moved" / "run"))
    assert there is not None
    assert there.samefile(tmp_path / "moved" / "data" / "test.jsonl")


@pytest.mark.usefixtures("capitals")
def test_replies_are_as_long_as_in_the_held_out_result_unless_asked_otherwise(run):
    assert asked(run).max_new_tokens == 48
    given = settings_of(run, Settings(max_new_tokens=99), task=False, reply_limit=True)
    assert given.max_new_tokens == 99


@pytest.mark.usefixtures("capitals")
def test_a_run_without_rows_says_what_to_give(run):
    (run.holdout_items).unlink()
    with pytest.raises(UserError, match=r"local rows without a test\.jsonl.*--data FILE\.jsonl"):
        own_items(run)


def test_a_task_that_is_not_installed_is_named(run):
    with pytest.raises(UserError, match=r"no task is named 'capitals'; installed tasks: .*gsm8k"):
        own_task(run)


@pytest.mark.usefixtures("capitals")
@pytest.mark.filterwarnings("default")  # datasets uses what newer libraries deprecate
@pytest.mark.parametrize("k", [1, 2])
def test_an_installed_task_needs_no_definition_of_its_own(tmp_path, k):
    model = any_model("org/name", adapter=None, tokenizer=None, backend=None)
    data = write_rows(tmp_path / "rows.jsonl", ROWS)
    with find_tasks(model, Settings(tasks=("capitals_xml",), data=data, k=k)) as found:
        [task] = found.load()
        docs = list(task.test_docs())
    assert [(doc["question"], doc["gold"], doc["task"]) for doc in docs] == [
        ("What is the capital of Chad?", "N'Djamena", "capitals"),
        ("What is the capital of Peru?", "Lima", "capitals"),
    ]
    assert found.data_digest is not None


@pytest.mark.slow
@pytest.mark.usefixtures("capitals")
@pytest.mark.filterwarnings("default")
def test_the_commands_follow_the_run(tiny, run, capsys):
    finish(run, tiny.base, task="capitals", data=data_of())
    run.adapter.symlink_to(tiny.adapter)
    assert command("run", "--run", run.root, "--what", "base", *SETTINGS) == 0
    result = json.loads((run.eval / "base.json").read_text(encoding="utf-8"))
    assert result["data"]["name"] == "items.jsonl"
    [item] = result["tasks"]["capitals_xml"]["items"]
    assert (item["question"], item["gold"]) == ("What is the capital of Chad?", "N'Djamena")
    assert command("ladder", "--run", run.root, "--max-new-tokens", "48") == 0
    assert "capitals_xml: 1 items" in capsys.readouterr().out
