import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from xmlgrpo_rewards import Example, Grade, Task, get_task, hacks
from xmlgrpo_rewards.commands.validate import HACKED_GOLDS, check_file, check_hacks
from xmlgrpo_rewards.hacks import HACKS
from xmlgrpo_rewards.reply import TAGS, render
from xmlgrpo_rewards.task import Hack


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xmlgrpo_rewards.commands.validate", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def table(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What is printed but for the progress, of which a machine that takes seconds prints lines."""
    return [line for line in done.stdout.splitlines() if "  left " not in line]


def test_good_rows_pass(rows_path: Path) -> None:
    done = run("gsm8k", rows_path)
    assert done.returncode == 0, done.stderr
    lines = table(done)
    assert lines[0].split() == ["tried", "failed"]
    assert lines[1].split() == ["gsm8k.jsonl", "26", "0"]
    assert lines[2].split() == ["known", "hacks", f"{24 * len(HACKS):,}", "0"]
    assert lines[3].startswith("26 rows in ")


def test_bad_rows_fail_and_are_named(tmp_path: Path) -> None:
    bad = [{"question": "q", "answer": f"no mark in row {n}"} for n in range(7)]
    path = tmp_path / "rows.jsonl"
    good = {"question": "q", "answer": "It is 3.\n#### 3"}
    path.write_text("".join(json.dumps(row) + "\n" for row in [good, *bad]), encoding="utf-8")
    done = run("gsm8k", path)
    assert done.returncode == 1
    assert "rows.jsonl         8        7" in done.stdout
    assert "FAILED row rows.jsonl:2: expected an answer that ends in `#### <number>`" in done.stdout
    assert "... and 2 more of rows.jsonl; --all lists them" in done.stdout
    assert run("gsm8k", path, "--all").stdout.count("FAILED row rows.jsonl:") == 7
    assert done.stderr == ""


def test_rows_that_cannot_be_read_are_named_with_the_others(tmp_path: Path) -> None:
    good = json.dumps({"question": "q", "answer": "It is 3.\n#### 3"})
    for split in ("train", "test"):
        lines = [good, "not json", '{"question": "q", "answer": "no mark"}', "[1]"]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    done = run("gsm8k", tmp_path)
    assert done.returncode == 1, done.stderr
    assert [line.split() for line in table(done)[1:3]] == [
        ["train.jsonl", "4", "3"],
        ["test.jsonl", "4", "3"],
    ]
    named = re.findall(r"^FAILED (?:row )?(\S+):", done.stdout, re.MULTILINE)
    assert named == [f"{split}.jsonl:{row}" for split in ("train", "test") for row in (2, 4, 3)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("", "got an empty file", id="empty"),
        pytest.param("not json\n" * 12, "9 other rows are bad, too: rows.jsonl:2,", id="not-json"),
        pytest.param(None, "No such file or directory", id="missing"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_error_line(
    tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done = run("gsm8k", path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_an_unknown_task_is_one_error_line(rows_path: Path) -> None:
    done = run("gsm8", rows_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "did you mean 'gsm8k'?" in done.stderr


@dataclass(frozen=True)
class Wrapped:
    """GSM8K with one thing changed, as a faulty task would have it."""

    gold: str | None = None
    strict_correct: bool | None = None
    written: dict[str, Any] | None = None
    name: str = "wrapped"
    dataset: str = "openai/gsm8k"
    dataset_config: str | None = "main"
    dataset_revision: str | None = None

    def example(self, row: Mapping[str, Any], row_id: str, /) -> Example:
        read = get_task("gsm8k").example(row, row_id)
        return replace(read, gold=self.gold or read.gold)

    def row(self, example: Example, /) -> dict[str, Any]:
        if self.written is not None:
            return self.written
        return get_task("gsm8k").row(replace(example, gold="0") if self.gold else example)

    def messages(self, question: str, /) -> list[dict[str, str]]:
        return get_task("gsm8k").messages(question)

    def grade(self, text: str, example: Example, /) -> Grade:
        if self.strict_correct is None:
            return get_task("gsm8k").grade(text, example)
        return Grade(self.strict_correct, True, True, True, True, example.gold)


def asked(*golds: str) -> list[Example]:
    return [Example(f"x:{n}", "How many?", gold, "") for n, gold in enumerate(golds)]


def test_a_grader_that_refuses_gold_is_found(rows_path: Path) -> None:
    checked = check_file(Wrapped(strict_correct=False), rows_path)
    assert len(checked.failures) == checked.tried == 26
    assert checked.examples == []  # no hack is tried on a row whose gold is wrong
    assert checked.failures[0].startswith(
        "row gsm8k.jsonl:1: the gold answer '29' is not graded right (Grade("
    )


@pytest.mark.parametrize(
    ("written", "says"),
    [
        pytest.param({"question": "q"}, "cannot be read back: row", id="a-field-is-missing"),
        pytest.param({"question": {1}}, "cannot be read back: Object of type set", id="no-json"),
        pytest.param(
            {"question": "q", "answer": "#### 3"}, "is read back as Example", id="another-problem"
        ),
    ],
)
def test_a_row_that_does_not_come_back_is_found(
    rows_path: Path, written: dict[str, Any], says: str
) -> None:
    checked = check_file(Wrapped(written=written), rows_path)
    assert len(checked.failures) == checked.tried
    assert f"row gsm8k.jsonl:1: what row() writes {says}" in checked.failures[0]


def test_a_solution_that_spoils_the_reply_is_found(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"question": "q", "answer": f"He writes {TAGS[3]}, that is 3.\n#### 3"}
    path.write_text(json.dumps(row), encoding="utf-8")
    checked = check_file(Wrapped(strict_correct=True), path)
    [failure] = checked.failures
    assert failure.startswith("row rows.jsonl:1: the gold answer '3' earns 0.329 of 4: {")


def test_a_task_without_numbers_is_graded_by_itself_alone(rows_path: Path) -> None:
    task = Wrapped(gold="SELECT 1", strict_correct=True)
    checked = check_file(task, rows_path)
    assert checked.failures == []
    assert check_hacks(task, checked.examples).tried == 0


def test_a_grader_that_accepts_anything_is_found() -> None:
    checked = check_hacks(Wrapped(strict_correct=True), asked("13"))
    assert checked.tried == len(checked.failures) == len(HACKS)
    assert "untagged-number with gold '13': is graded right" in checked.failures


def test_a_reward_that_pays_a_hack_is_found(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    hack = Hack("answer-wrong", render("x", "WRONG"), earns=1.5)
    monkeypatch.setattr(hacks, "HACKS", (hack,))
    assert check_hacks(task, asked("13")).failures == [
        "answer-wrong with gold '13': earns 2, may earn 1.5"
    ]


def test_hacks_are_tried_from_the_smallest_gold_to_the_largest(task: Task) -> None:
    golds = [str(n) for n in range(-50, 1000)]
    assert check_hacks(task, asked(*golds)).tried == HACKED_GOLDS * len(HACKS)


def test_a_folder_means_the_splits_in_it(rows_path: Path, tmp_path: Path) -> None:
    for name in ("test.jsonl", "train.jsonl", "other.jsonl"):
        (tmp_path / name).write_bytes(rows_path.read_bytes())
    done = run("gsm8k", tmp_path)
    assert [line.split()[0] for line in table(done)[1:3]] == [
        "train.jsonl",
        "test.jsonl",
    ]
    assert "52 rows in " in done.stdout


def test_without_a_file_the_task_makes_the_rows() -> None:
    done = run("gsm8k")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the task 'gsm8k' makes no rows of its own")


def test_a_folder_without_rows_is_one_error_line(tmp_path: Path) -> None:
    done = run("gsm8k", tmp_path)
    assert done.returncode == 2
    assert "error: expected train.jsonl or test.jsonl in the folder" in done.stderr


def test_a_long_file_says_how_far_it_is(
    task: Task,
    rows_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ticks = itertools.count(100, 0.25)  # a row takes so many seconds
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    assert check_file(task, rows_path).tried == 26
    said = capsys.readouterr().out.splitlines()
    assert said == ["gsm8k.jsonl  19/26 rows  4/s  left 0:00:02"]


def test_all_of_gsm8k_passes(gsm8k_dir: Path) -> None:
    done = run("gsm8k", gsm8k_dir / "train.jsonl", gsm8k_dir / "test.jsonl")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8,792 rows in " in done.stdout
