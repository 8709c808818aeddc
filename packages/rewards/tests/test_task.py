from importlib.metadata import EntryPoint

import pytest

from xmlgrpo_rewards import BadRow, Task, UserError, get_task, task_names
from xmlgrpo_rewards import task as task_module
from xmlgrpo_rewards.tasks import gsm8k


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """The entry points that other distributions would bring; fill it in the test."""
    found: list[EntryPoint] = []
    monkeypatch.setattr(task_module, "entry_points", lambda **_: found)
    return found


def offer(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "xmlgrpo.tasks")


def test_gsm8k_is_installed() -> None:
    assert "gsm8k" in task_names()
    assert get_task("gsm8k") is gsm8k.TASK


@pytest.mark.parametrize("name", task_names())
def test_an_installed_task_has_the_name_of_its_entry_point(name: str) -> None:
    task = get_task(name)
    assert isinstance(task, Task)
    assert task.name == name
    assert not task.dataset or task.dataset.count("/") == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("gsm9k", "did you mean 'gsm8k'?", id="near"),
        pytest.param("zzz", "no task is named 'zzz'", id="far"),
        pytest.param("", "no task is named ''", id="empty"),
    ],
)
def test_an_unknown_task_is_answered_with_the_list(name: str, said: str) -> None:
    with pytest.raises(UserError, match=r"installed tasks: .*gsm8k") as raised:
        get_task(name)
    assert said in str(raised.value)


@pytest.mark.usefixtures("installed")
def test_without_any_task_the_message_says_what_to_install() -> None:
    with pytest.raises(UserError, match="none \\(install xmlgrpo-rewards with pip\\)"):
        get_task("gsm8k")


def test_the_same_offer_found_twice_is_one(installed: list[EntryPoint]) -> None:
    installed += [offer("gsm8k", "xmlgrpo_rewards.tasks.gsm8k:TASK")] * 2
    assert get_task("gsm8k") is gsm8k.TASK


def test_two_offers_of_one_name_are_refused(installed: list[EntryPoint]) -> None:
    installed += [offer("sql", "one_package:TASK"), offer("sql", "another:TASK")]
    with pytest.raises(UserError, match="offered twice, by another:TASK and by one_package:TASK"):
        get_task("sql")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param("no_such_package:TASK", "No module named 'no_such_package'", id="module"),
        pytest.param("json:TASK", "has no attribute 'TASK'", id="attribute"),
        pytest.param("json:dumps", "lacks something of .*Task: got function", id="not-a-task"),
    ],
)
def test_a_broken_offer_is_named(installed: list[EntryPoint], value: str, said: str) -> None:
    installed.append(offer("sql", value))
    with pytest.raises(UserError, match=f"'sql' \\({value}\\).*{said}"):
        get_task("sql")


@pytest.mark.parametrize(
    "name", ["sums", "GSM8K", "../gsm8k", "gsm8k\n", "gsm 8k", "8gsm", "gsm.8k"]
)
def test_a_task_is_offered_by_its_own_name_which_can_stand_in_a_path(
    installed: list[EntryPoint], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    installed.append(offer(name, "xmlgrpo_rewards.tasks.gsm8k:TASK"))
    with pytest.raises(UserError, match="letters, digits, - and _, got 'gsm8k'"):
        get_task(name)
    if name not in {"sums", "GSM8K"}:
        monkeypatch.setattr(gsm8k, "TASK", gsm8k.Gsm8k(name=name))
        with pytest.raises(UserError, match="letters, digits, - and _"):
            get_task(name)


def test_a_bad_row_says_which_what_and_what_came() -> None:
    error = BadRow("train.jsonl:7", "a text in 'question'", 3)
    assert isinstance(error, UserError)
    assert error.row_id == "train.jsonl:7"
    assert str(error) == (
        "row train.jsonl:7: expected a text in 'question', got 3; correct the row or leave it out"
    )


def test_a_bad_row_shows_the_start_of_a_long_value() -> None:
    message = str(BadRow("x:1", "a number", "7" * 100_000))
    assert len(message) < 300
    assert "... (100,002 characters)" in message
