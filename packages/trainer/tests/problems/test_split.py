"""Reading and cutting problems: nothing shared, nothing cut short, every bad row named."""

import json
from pathlib import Path
from typing import Any

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Example, get_task
from xmlgrpo_rewards.tasks.gsm8k import Gsm8k
from xmlgrpo_trainer.config.run_config import DataConfig, HoldoutConfig, RunConfig
from xmlgrpo_trainer.problems.split import Problems, check_golds, drop_long, load_problems

TASK = get_task("gsm8k")
HOLDOUT = HoldoutConfig(report_rows=3, validation_rows=2)


def row(number: int) -> dict[str, str]:
    return {
        "question": f"What is {number} + 1?",
        "answer": f"{number}+1={number + 1}\n#### {number + 1}",
    }


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in rows), encoding="utf-8")
    return path


def load(path: Path, holdout: HoldoutConfig = HOLDOUT, **data: Any) -> Problems:
    config = DataConfig(source="json", path=str(path), **data)
    return load_problems(RunConfig(data=config, holdout=holdout), TASK)


def questions(problems: Problems) -> list[set[str]]:
    parts = (problems.train, problems.validation, problems.report)
    return [{example.question for example in part} for part in parts]


def test_the_three_parts_share_no_question_and_lose_none(tmp_path: Path) -> None:
    problems = load(write(tmp_path / "rows.jsonl", [row(n) for n in range(20)]))
    train, validation, report = questions(problems)
    assert (len(train), len(validation), len(report)) == (15, 2, 3)
    assert train | validation | report == {row(n)["question"] for n in range(20)}


def test_the_cut_does_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = [row(n) for n in range(20)]
    forward = load(write(tmp_path / "a.jsonl", rows))
    backward = load(write(tmp_path / "b.jsonl", rows[::-1]))
    assert questions(forward) == questions(backward)
    assert forward.sha256() == backward.sha256()


def test_a_repeated_question_lies_on_one_side_and_is_counted(tmp_path: Path) -> None:
    problems = load(write(tmp_path / "rows.jsonl", [row(n) for n in range(10)] * 3))
    assert problems.repeated == 20
    assert sum(len(part) for part in questions(problems)) == 10


def test_a_limit_is_for_training_only(tmp_path: Path) -> None:
    problems = load(write(tmp_path / "rows.jsonl", [row(n) for n in range(20)]), limit=4)
    assert (len(problems.train), len(problems.report)) == (4, 3)


def test_held_out_problems_may_come_from_a_file_of_their_own(tmp_path: Path) -> None:
    train = write(tmp_path / "rows.jsonl", [row(n) for n in range(9)] * 2)
    held_out = write(tmp_path / "held-out.jsonl", [row(n) for n in range(100, 108)])
    holdout = HOLDOUT.model_copy(update={"path": str(held_out)})
    problems = load(train, holdout)
    practised, validation, report = questions(problems)
    assert [example.question for example in problems.train] == [
        row(n)["question"] for n in range(9)
    ]
    assert (len(practised), len(validation), len(report)) == (9, 2, 3)
    assert validation | report <= {row(n)["question"] for n in range(100, 108)}
    assert problems.repeated == 9


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        pytest.param(range(8, 14), "1 of its questions are trained on as well", id="shared"),
        pytest.param(range(20, 24), "expected 5 different problems .* got 4", id="too-few"),
    ],
)
def test_held_out_problems_that_do_not_do_are_refused(
    tmp_path: Path, numbers: range, words: str
) -> None:
    train = write(tmp_path / "rows.jsonl", [row(n) for n in range(9)])
    held_out = write(tmp_path / "held-out.jsonl", [row(n) for n in numbers])
    with pytest.raises(UserError, match=words):
        load(train, HOLDOUT.model_copy(update={"path": str(held_out)}))


class Doubting(Gsm8k):
    """GSM8K that finds fault with some golds."""

    def gold_fault(self, example: Example, /) -> str | None:
        return f"{example.gold} is too small" if len(example.gold) == 1 else None


def test_a_row_with_a_faulty_gold_is_left_out_and_named(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": f"#### {n}"} for n in range(5, 25)]
    config = DataConfig(source="json", path=str(write(tmp_path / "rows.jsonl", rows)))
    problems = load_problems(RunConfig(data=config, holdout=HOLDOUT), Doubting())
    said = (f"row rows.jsonl:{n - 4}: {n} is too small" for n in range(5, 10))
    assert problems.faulty == tuple(said)
    assert set.union(*questions(problems)) == {f"{n}?" for n in range(10, 25)}
    config = DataConfig(source="json", path=str(write(tmp_path / "rows.jsonl", rows[:5])))
    with pytest.raises(UserError, match=r"and 5 left out \(row rows\.jsonl:1: 5 is too small\)"):
        load_problems(RunConfig(data=config, holdout=HOLDOUT), Doubting())


def test_golds_that_the_reward_for_numbers_cannot_read_are_refused_before_training() -> None:
    cat = Problems([Example("x:1", "Which?", "cat", "")], [], [], "rows.jsonl")
    check_golds(cat, ["xmlcount_reward_func"], TASK)
    with pytest.raises(UserError, match="compares numbers, and the gold of x:1 is 'cat'"):
        check_golds(cat, ["correctness_reward_func"], TASK)


def test_a_folder_means_its_train_file(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [row(n) for n in range(9)])
    write(tmp_path / "test.jsonl", [row(n) for n in range(100, 109)])
    problems = load(tmp_path)
    assert set.union(*questions(problems)) == {row(n)["question"] for n in range(9)}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        pytest.param(
            {"question": "?", "answer": "no mark"}, ["rows.jsonl:2", "####"], id="no-gold"
        ),
        pytest.param({"question": "?"}, ["rows.jsonl:2", "answer"], id="no-answer-field"),
        pytest.param({"answer": "#### 1"}, ["rows.jsonl:2", "question"], id="no-question"),
        pytest.param({"question": 5, "answer": "#### 1"}, ["rows.jsonl:2", "5"], id="wrong-type"),
        pytest.param([1, 2], ["rows.jsonl:2", "object"], id="not-an-object"),
        pytest.param({"question": "?", "answer": "#### many"}, ["rows.jsonl:2"], id="no-number"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, bad: Any, words: list[str]) -> None:
    path = write(tmp_path / "rows.jsonl", [row(1), bad, *[row(n) for n in range(2, 9)]])
    with pytest.raises(UserError) as caught:
        load(path)
    for word in words:
        assert word in str(caught.value)


def test_bad_rows_of_every_kind_are_named_at_once(tmp_path: Path) -> None:
    bad = [{"question": "?"}, [1, 2], {"question": 5, "answer": "#### 1"}]
    path = write(tmp_path / "rows.jsonl", [row(1), bad[0], row(2), bad[1], row(3), bad[2]])
    with pytest.raises(
        UserError, match=r"rows\.jsonl:2: .*; 2 other rows are bad, too: "
    ) as caught:
        load(path)
    assert str(caught.value).endswith("rows.jsonl:4, rows.jsonl:6")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"{\n", "rows.jsonl:1", id="not-json"),
        pytest.param(b"\xff\xfe{}\n", "UTF-8", id="not-utf-8"),
    ],
)
def test_a_file_that_is_no_jsonl_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file at .*gone\.jsonl"):
        load(tmp_path / "gone.jsonl")
    with pytest.raises(UserError, match=r"no file at .*train\.jsonl"):
        load(tmp_path)


def test_too_few_rows_to_hold_any_out(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [row(n) for n in range(3)])
    with pytest.raises(UserError, match="no training problem is left after 3 were held out"):
        load(path)


def test_the_hub_out_of_reach_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def unreachable(*_args: Any, **_options: Any) -> Any:
        raise ConnectionError("Couldn't reach 'openai/gsm8k' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(UserError, match="Check the network, or give a local copy"):
        load_problems(RunConfig(data=DataConfig(source="hub")), TASK)


def test_generated_problems_share_no_question_either() -> None:
    config = DataConfig(source="generated", generated_rows=50)
    holdout = HoldoutConfig(report_rows=30, validation_rows=20)
    problems = load_problems(RunConfig(seed=1, data=config, holdout=holdout), TASK)
    train, validation, report = questions(problems)
    assert (len(train), len(validation), len(report)) == (50, 20, 30)
    assert len(train | validation | report) == 100


@pytest.mark.parametrize("source", ["generated", "json"])
def test_seeds_of_one_configuration_can_hold_out_the_same_problems(
    source: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "rows.jsonl", [row(number) for number in range(40)])
    rows = {"path": str(path)} if source == "json" else {"generated_rows": 20}

    def held_out(seed: int, *, of_problems: int | None = None) -> list[str]:
        config = RunConfig.model_validate(
            {
                "seed": seed,
                "data": {"source": source, "seed": of_problems, **rows},
                "holdout": HOLDOUT.model_dump(),
            }
        )
        made = load_problems(config, TASK)
        return [example.question for example in made.report + made.validation]

    assert held_out(1, of_problems=0) == held_out(2, of_problems=0) == held_out(0)
    assert held_out(1) != held_out(2)


@pytest.mark.slow
def test_over_long_prompts_are_left_out_and_counted(tmp_path: Path, tiny_base: Path) -> None:
    from transformers import AutoTokenizer

    rows = [row(n) for n in range(12)]
    rows[4]["question"] = "word " * 600 + "?"
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    problems = load(
        write(tmp_path / "rows.jsonl", rows), HoldoutConfig(report_rows=3, validation_rows=0)
    )
    kept = drop_long(problems, TASK, tokenizer, max_tokens=100)
    assert kept.dropped_long == 1
    assert sum(len(part) for part in questions(kept)) == 11
    with pytest.raises(UserError, match=r"all prompts are over data\.max_prompt_tokens = 3"):
        drop_long(problems, TASK, tokenizer, max_tokens=3)


def test_the_real_training_split_is_read_whole(gsm8k_dir: Path) -> None:
    problems = load(gsm8k_dir, HoldoutConfig(report_rows=400, validation_rows=200))
    assert len(problems.train) + 600 + problems.repeated == 7473
