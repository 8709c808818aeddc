"""What a run decides: a run of another task than GSM8K asks its own task and its own rows."""

import json
import math
import shutil
from pathlib import Path

import pytest

from finished_runs import data_of
from xmlgrpo_evaluator.models import Model, any_model
from xmlgrpo_evaluator.settings import (
    Evaluation,
    EvaluationSettings,
    own_items,
    run_settings,
    what_is_kept,
)
from xmlgrpo_evaluator.tasks import find_tasks
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import Place, read_manifest

from .conftest import SETTINGS, command, finish, write_rows

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "weekday.py"
ROWS = [
    {"start": "Monday", "days": 9, "weekday": "Wednesday"},
    {"start": "Sunday", "days": 7, "weekday": "Sunday"},
]


@pytest.fixture
def weekday(tmp_path, monkeypatch) -> None:
    """The task of docs/add-a-task.md, installed as a distribution of somebody else's."""
    site = tmp_path / "site"
    described = site / "weekday_task-1.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: weekday-task\nVersion: 1\n")
    (described / "entry_points.txt").write_text("[xmlgrpo.tasks]\nweekday = weekday_task:TASK\n")
    shutil.copy(EXAMPLE, site / "weekday_task.py")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))  # of the ladder's processes
    for name in ("GSM8K_DIR", "WEEKDAY_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A finished run of that task on a file of rows, with held-out rows of its own."""
    folder = RunFolder(tmp_path / "run")
    trained_on = write_rows(tmp_path / "data" / "train.jsonl", ROWS)
    data = data_of(source="json", name=trained_on.name, place=Place.of(trained_on, folder))
    write_rows(folder.holdout_items, ROWS[:1])
    finish(folder, tmp_path / "base", task="weekday", data=data)
    return folder


def asked(run: RunFolder, **given) -> EvaluationSettings:
    return run_settings(run, read_manifest(run), given)


def items(run: RunFolder) -> Path | None:
    return own_items(run, read_manifest(run))


@pytest.mark.usefixtures("weekday")
def test_a_run_asks_its_own_task(run):
    own = asked(run)
    assert (own.tasks, own.max_new_tokens) == (("weekday_xml",), 48)
    assert own.result_file(run.eval, "tuned") == run.eval / "tuned.json"
    given = {"limit": 9, "k": 2, "temperature": 0.7, "seed": 3, "max_new_tokens": 7}
    other = asked(run, tasks=("gsm8k_xml",), **given)
    assert (other.data, other.max_new_tokens) == (None, 7)
    assert other.result_file(run.eval, "tuned").name == "tuned-gsm8k_xml-n9-k2-t0.7-s3.json"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"k": 4, "temperature": 0.0}, "expected a number above 0, got 0", id="none"),
        pytest.param({"k": 4, "temperature": math.nan}, "above 0, got nan", id="no-number"),
        pytest.param({"temperature": 0.7}, "of sampled replies; say how many", id="without-k"),
        pytest.param({"seed": -1}, "--seed: expected 0 to 4,294,967,295, got -1", id="seed"),
        pytest.param({"seed": 2**32}, "--seed: expected 0 to 4,294,967,295", id="large-seed"),
        pytest.param({"k": 10**20}, "--k: expected 0 to 10,000, got 1000", id="endless-samples"),
        pytest.param({"max_new_tokens": 10**20}, "--max-new-tokens: expected", id="endless-reply"),
        pytest.param({"batch_size": "²"}, "--batch-size: expected a whole number", id="no-decimal"),
        pytest.param({"batch_size": 10**20}, "--batch-size: expected a whole", id="large-batch"),
    ],
)
def test_settings_that_no_evaluation_can_have_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        EvaluationSettings(**given)


def test_another_temperature_is_another_evaluation_and_of_greedy_replies_there_is_none():
    model = any_model("org/name", adapter=None, tokenizer=None, backend=None)

    def identity(**given):
        return Evaluation(model, EvaluationSettings(**given), Path("r.json")).identity(None)

    assert "temperature" not in identity()
    assert identity(k=4)["temperature"] == 1.0
    assert identity(k=4, temperature=0.7)["temperature"] == 0.7


@pytest.mark.parametrize(
    ("there", "kept"),
    [
        pytest.param("", "no model was finished; the same command goes on with a", id="none"),
        pytest.param("a", "finished and kept: a; the same command goes on with b", id="one"),
        pytest.param("ab", "finished and kept: a, b; the same command shows them", id="all"),
    ],
)
def test_what_ctrl_c_says_is_what_lies_on_the_disk(tmp_path, there, kept):
    for name in there:
        (tmp_path / f"{name}.json").touch()
    settings = EvaluationSettings(tasks=("gsm8k_xml",))
    models = [Model(name, "hf", name) for name in "ab"]
    asked = [Evaluation(each, settings, tmp_path / f"{each.label}.json") for each in models]
    assert what_is_kept(asked) == kept


@pytest.mark.usefixtures("weekday")
def test_its_own_rows_in_their_order(run, tmp_path, monkeypatch):
    held_out = run.holdout_items
    assert items(run) == held_out
    monkeypatch.setenv("WEEKDAY_DIR", str(tmp_path))
    assert items(run) is None  # the environment's
    test = write_rows(tmp_path / "data" / "test.jsonl", ROWS)
    assert items(run) == test
    mine = write_rows(tmp_path / "mine.jsonl", ROWS)
    assert asked(run, data=mine).data == mine


def test_held_out_problems_that_were_edited_are_not_asked(run):
    write_rows(run.holdout_items, ROWS[1:])
    with pytest.raises(UserError, match=r"items\.jsonl is damaged or was changed.*restore it"):
        items(run)


@pytest.mark.parametrize(
    ("named", "tests", "asked"),
    [
        pytest.param("data/train.csv", ["data/test.csv"], "data/test.csv", id="table"),
        pytest.param("data", ["data/test.parquet"], "data/test.parquet", id="folder"),
        pytest.param(
            "data",
            ["data/main/test-00000-of-00002.parquet", "data/main/test-00001-of-00002.parquet"],
            "data",
            id="folder-of-the-hub",
        ),
        pytest.param(
            "data/train-00000-of-00001.parquet",
            ["data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"],
            "data",
            id="parts-beside-the-file",
        ),
        pytest.param("data/rows.csv", ["data/other/test.csv"], None, id="not-below-a-file"),
    ],
)
@pytest.mark.usefixtures("weekday")
def test_the_test_split_of_any_form_is_found(tmp_path, named, tests, asked):
    for name in ("data/rows.csv", "data/train.csv", "data/train-00000-of-00001.parquet", *tests):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    run = RunFolder(tmp_path / "run")
    data = data_of(source="json", name="rows", place=Place.of(tmp_path / named, run))
    write_rows(run.holdout_items, ROWS[:1])
    finish(run, tmp_path / "base", task="weekday", data=data)
    assert items(run) == (run.holdout_items if asked is None else tmp_path / asked)


def test_a_run_and_its_rows_that_were_moved_stay_together(run, tmp_path):
    test = write_rows(tmp_path / "data" / "test.jsonl", ROWS)
    (tmp_path / "moved").mkdir()
    for path in (run.root, test.parent):
        path.rename(tmp_path / "moved" / path.name)
    there = items(RunFolder(tmp_path / "moved" / "run"))
    assert there is not None
    assert there.samefile(tmp_path / "moved" / "data" / "test.jsonl")


@pytest.mark.usefixtures("weekday")
def test_a_run_without_rows_says_what_to_give(run):
    run.holdout_items.unlink()
    with pytest.raises(UserError, match=r"local rows without a test\.jsonl.*--data FILE\.jsonl"):
        items(run)


def test_a_task_that_is_not_installed_is_named(run):
    with pytest.raises(UserError, match=r"no task is named 'weekday'; installed tasks: .*gsm8k"):
        asked(run)


@pytest.mark.usefixtures("weekday")
@pytest.mark.filterwarnings("default")  # datasets uses what newer libraries deprecate
@pytest.mark.parametrize("k", [1, 2])
def test_an_installed_task_needs_no_definition_of_its_own(tmp_path, k):
    model = any_model("org/name", adapter=None, tokenizer=None, backend=None)
    data = write_rows(tmp_path / "rows.jsonl", ROWS)
    settings = EvaluationSettings(tasks=("weekday_xml",), data=data, k=k)
    with find_tasks(Evaluation(model, settings, tmp_path / "r.json")) as found:
        *greedy, task = found.load()
        assert [one.config.task for one in greedy] == ["weekday_xml"] * (k - 1)
        docs = list(task.test_docs())
    assert [(doc["question"], doc["gold"], doc["task"]) for doc in docs] == [
        ("Today is Monday. Which day of the week is it in 9 days?", "Wednesday", "weekday"),
        ("Today is Sunday. Which day of the week is it in 7 days?", "Sunday", "weekday"),
    ]
    assert found.data_digest is not None


@pytest.mark.slow
@pytest.mark.usefixtures("weekday")
@pytest.mark.filterwarnings("default")
def test_the_commands_follow_the_run(tiny, run, capsys):
    run.adapter.symlink_to(tiny.adapter)
    finish(run, tiny.base, task="weekday", data=data_of())
    assert command("run", "--run", run.root, "--what", "base", *SETTINGS) == 0
    result = json.loads((run.eval / "base.json").read_text(encoding="utf-8"))
    assert result["data"]["name"] == "items.jsonl"
    [item] = result["tasks"]["weekday_xml"]["items"]
    assert (item["question"], item["gold"]) == (
        "Today is Monday. Which day of the week is it in 9 days?",
        "Wednesday",
    )
    assert command("ladder", "--run", run.root, "--max-new-tokens", "48") == 0
    assert "weekday_xml: 1 items" in capsys.readouterr().out


def test_what_is_always_done_may_be_asked_for() -> None:
    from xmlgrpo_evaluator.cli import _given, parser

    options, rest = parser().parse_known_args(["run", "--model", "x", "--log_samples"])
    assert "log_samples" not in _given(options, rest)["harness"]
