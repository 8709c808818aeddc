"""Held-out results: what counts as what, worked by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from xmlgrpo_rewards.reply import render
from xmlgrpo_rewards.rows import text_rows
from xmlgrpo_rewards.task import Example, get_task
from xmlgrpo_rollout.engine import Completion, Sampling
from xmlgrpo_run.measures.holdout import HoldoutResult, Item, read_result, save_result
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_trainer.problems import exam as holdout
from xmlgrpo_trainer.problems.exam import Exam, save_items, take

QUIET = Console(quiet=True)


class Recorded:
    """An engine that gives recorded replies, each ended by token 0 unless it was cut."""

    def __init__(self, replies: dict[str, str], cut: str = "") -> None:
        self.replies, self.cut, self.batches = replies, cut, list[int]()

    def refresh(self) -> None:
        self.batches.append(0)

    def __call__(
        self, prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling
    ) -> list[Completion]:
        assert (samples, sampling.temperature) == (1, 0.0)
        self.batches.append(len(prompts))
        asked = ["".join(map(chr, prompt)).rpartition("\n\n")[2] for prompt in prompts]
        return [
            Completion([ord(letter) for letter in self.replies[q]] + ([] if q == self.cut else [0]))
            for q in asked
        ]


REPLIES = {
    "right": render("2+2 = 4", "4"),
    "right number, wrong form": "2+2 = 4",
    "wrong number, right form": render("I think it is 5.", "5"),
    "cut": "<reasoning>\n2+2 = 4, so",
    "nothing": "",
}


@pytest.fixture
def result(letters: Any) -> HoldoutResult:
    """What was taken of five recorded replies."""
    engine = Recorded(REPLIES, cut="cut")
    exam = Exam(engine, letters, get_task("gsm8k"), Sampling(99, temperature=0.0), [0], 2, QUIET)
    problems = [Example(str(i), question, "4", "") for i, question in enumerate(REPLIES)]
    taken = take(exam, "an exam", problems, step=7)
    assert engine.batches == [0, 2, 2, 1]  # refreshed first, then in batches
    return taken


def test_shares_are_counted_as_by_hand(result: HoldoutResult) -> None:
    metrics = result.metrics()
    hits = {name: value["hits"] for name, value in metrics.items() if name != "mean_tokens"}
    assert hits == {
        "strict_format": 2,  # right; wrong number, right form
        "strict_accuracy": 1,  # right
        "lenient_accuracy": 3,  # right; right number, wrong form; cut
        "worked": 3,  # right; right number, wrong form; cut
        "truncated": 1,  # cut
        "no_answer": 1,  # nothing
    }
    lengths = [len(reply) + (name != "cut") for name, reply in REPLIES.items()]
    assert metrics["mean_tokens"] == pytest.approx(sum(lengths) / 5, abs=0.005)


def test_a_result_is_read_back_as_it_was(tmp_path: Path, result: HoldoutResult) -> None:
    before = result
    save_result(tmp_path / "r.json", before)
    assert read_result(tmp_path / "r.json") == before
    assert isinstance(before.items[0], Item)


class Capitals:
    """A task whose rows have other fields than GSM8K's."""

    def example(self, row: Mapping[str, Any], row_id: str) -> Example:
        return Example(row_id, f"Capital of {row['country']}?", row["capital"], "")

    def row(self, example: Example) -> dict[str, Any]:
        country = example.question.removeprefix("Capital of ").removesuffix("?")
        return {"country": country, "capital": example.gold}


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        pytest.param(
            get_task("gsm8k"), Example("7", "How many?\nSay.", "12", "3*4 = 12"), id="gsm8k"
        ),
        pytest.param(get_task("gsm8k"), Example("8", "How many?", "1.5", ""), id="no-solution"),
        pytest.param(Capitals(), Example("9", "Capital of Chad?", "N'Djamena", ""), id="another"),
    ],
)
def test_held_out_items_are_rows_of_the_tasks_own_form(
    tmp_path: Path, task: Any, problem: Example
) -> None:
    save_items(tmp_path / "items.jsonl", task, [problem])
    [row] = text_rows(tmp_path / "items.jsonl")
    assert row.fields["id"] == problem.id
    assert task.example(row.fields, problem.id) == problem


def test_gsm8ks_rows_are_as_they_were(tmp_path: Path) -> None:
    problem = Example("7", "How many?", "12", "3*4 = 12")
    save_items(tmp_path / "items.jsonl", get_task("gsm8k"), [problem])
    assert (tmp_path / "items.jsonl").read_text(encoding="utf-8") == (
        '{"id": "7", "question": "How many?", "answer": "3*4 = 12\\n#### 12"}\n'
    )


class Telling(Recorded):
    """An engine that looks at the stage while it has finished one completion of a batch."""

    stage: Stage
    finished, seen = 0, tuple[str, ...]()

    def __call__(
        self, prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling
    ) -> list[Completion]:
        self.finished = 1
        self.seen = (*self.seen, self.stage.figures())
        self.finished = 0
        return super().__call__(prompts, samples, sampling)


def test_the_stage_moves_within_a_batch_where_the_engine_tells(
    monkeypatch: pytest.MonkeyPatch, letters: Any
) -> None:
    engine = Telling(dict.fromkeys("abc", "#### 1"))

    def watched(*arguments: Any, **options: Any) -> Stage:
        engine.stage = Stage(*arguments, **options)
        return engine.stage

    monkeypatch.setattr(holdout, "Stage", watched)
    exam = Exam(engine, letters, get_task("gsm8k"), Sampling(9, temperature=0.0), [0], 2, QUIET)
    problems = [Example(name, name, "1", "") for name in "abc"]
    taken = take(exam, "an exam", problems, 3)
    assert (taken.step, len(taken.items)) == (3, 3)
    counts = [figures.split(" problems")[0] for figures in engine.seen]
    assert counts == ["1/3", "3/3"]  # one of the first two, then they and one of the last


@dataclass(frozen=True)
class Wired:
    """Stands in for the network: the values that the ranks would have exchanged."""

    index: int
    count: int
    values: list[Any]

    def gather(self, value: Any) -> list[Any]:
        assert value == self.values[self.index]
        return self.values


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("number", [0, 1, 2, 5, 6])
def test_each_rank_answers_its_share_and_has_every_reply_in_order(
    number: int, count: int, letters: Any
) -> None:
    problems = [Example(str(n), "x" * (n + 1), "1", "") for n in range(number)]
    replies = {"x" * (n + 1): f"#### {n}" for n in range(number)}
    parts = [
        [[*map(ord, replies["x" * (n + 1)]), 0] for n in range(rank, number, count)]
        for rank in range(count)
    ]
    for rank in range(count):
        engine, wired = Recorded(replies), Wired(rank, count, parts)
        exam = Exam(
            engine,
            letters,
            get_task("gsm8k"),
            Sampling(9, temperature=0.0),
            [0],
            9,
            QUIET,
            wired,  # type: ignore[arg-type]  # a stand-in
        )
        taken = take(exam, "an exam", problems, step=1)
        assert [item.reply for item in taken.items] == list(replies.values())
        assert sum(engine.batches) == len(parts[rank])
