"""Rows that a task makes by itself, written down."""

import json
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xmlgrpo_rewards import Example, Task, UserError
from xmlgrpo_rewards.commands.rows import made_rows, write_rows
from xmlgrpo_rewards.task import FaultyRow
from xmlgrpo_rewards.tasks.gsm8k import Gsm8k


class Sums(Gsm8k):
    """GSM8K that makes rows; each third one repeats the one before."""

    kinds = 10

    def generated(self, count: int, seed: int, /) -> Iterator[dict[str, Any]]:
        for n in range(count):
            kind = (n - (n % 3 == 2)) % self.kinds
            yield {"question": f"{seed} + {kind}?", "answer": f"#### {seed + kind}"}


class Alike(Sums):
    """The same without repetitions."""

    def generated(self, count: int, seed: int, /) -> Iterator[dict[str, Any]]:
        return ({"question": f"{seed} + {n}?", "answer": f"#### {seed + n}"} for n in range(count))


class Doubting(Alike):
    """It finds fault with its own third row."""

    def gold_fault(self, example: Example, /) -> str | None:
        return "3 is no answer" if example.gold == "3" else None


def questions(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["question"] for line in lines]


def test_the_two_files_share_no_question_and_the_test_does_not_depend_on_the_rest(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    paths = write_rows(Alike(), first, train=5, test=3, seed=7)
    assert [path.name for path in paths] == ["test.jsonl", "train.jsonl"]
    assert questions(first / "test.jsonl") == ["7 + 0?", "7 + 1?", "7 + 2?"]
    assert not set(questions(first / "train.jsonl")) & set(questions(first / "test.jsonl"))
    write_rows(Alike(), second, train=50, test=3, seed=7)
    assert (second / "test.jsonl").read_bytes() == (first / "test.jsonl").read_bytes()
    assert write_rows(Alike(), first, train=5, test=3, seed=7) == paths  # again: nothing to refuse
    with pytest.raises(UserError, match=r"test\.jsonl is there, with other rows"):
        write_rows(Alike(), first, train=5, test=3, seed=8)
    assert sorted(path.name for path in first.iterdir()) == ["test.jsonl", "train.jsonl"]


def test_what_cannot_be_made_is_refused_and_writes_nothing(tmp_path: Path, task: Task) -> None:
    with pytest.raises(UserError, match="'gsm8k' makes no rows of its own; those that do: "):
        list(made_rows(task, 3, 0))
    with pytest.raises(UserError, match="has made 7 different problems of the 12"):
        list(made_rows(Sums(), 12, 0))
    with pytest.raises(UserError, match="--level: the task 'gsm8k' has no 'easy'; there are: none"):
        list(made_rows(Sums(), 3, 0, "easy"))
    with pytest.raises(FaultyRow, match="row generated:4: 3 is no answer"):
        write_rows(Doubting(), tmp_path / "none", train=9, test=0, seed=0)
    assert not (tmp_path / "none").exists()


class Unmade(Alike):
    """It must not be asked for rows."""

    def generated(self, count: int, seed: int, /) -> Iterator[dict[str, Any]]:
        raise AssertionError((count, seed))


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("file", id="file"),
        pytest.param("file/in/it", id="in-a-file"),
    ],
)
def test_a_place_for_no_files_is_refused_before_rows_are_made(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"expected a folder at '.*/file', got a file; name another"
    ):
        write_rows(Unmade(), tmp_path / place, train=5, test=3, seed=0)


def test_making_many_rows_is_not_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = iter(range(0, 100, 2))
    monkeypatch.setattr(time, "monotonic", lambda: next(now_s))
    write_rows(Alike(), tmp_path, train=5, test=3, seed=0)
    assert capsys.readouterr().out.splitlines() == [
        "generated  2/8 rows  3 s each  left 0:00:18",
        "generated  5/8 rows  2 s each  left 0:00:07",
    ]


def test_a_disk_that_is_full_at_the_second_file_leaves_neither(tmp_path: Path) -> None:
    size = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, size[1]))
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match="File too large"):
            write_rows(Alike(), tmp_path / "rows", train=50, test=3, seed=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, size)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list((tmp_path / "rows").iterdir()) == []
