"""What other trainers call pays what training here pays."""

import json
from pathlib import Path

import pytest

from xmlgrpo_rewards import get_task, load_rewards, render, total
from xmlgrpo_rewards.adapters import trl, verl
from xmlgrpo_rewards.commands.rows import write_rows
from xmlgrpo_rewards.task import default_rewards

TASK = get_task("gsm8k")
EXAMPLE = TASK.example({"question": "How many?", "answer": "16 - 3 = 13\n#### 13"}, "row-1")
REPLIES = [
    render("16 - 3 = 13", "13"), render("16 - 3 = 14", "14"), "13", "", render("x", "a") + "b",
]  # fmt: skip
COLUMNS = {
    name: [value] * len(REPLIES)
    for name, value in {"answer": "13", "id": "row-1", "question": "?", "judge": ""}.items()
}


def test_trl_is_paid_the_whole_or_one_reward_by_name() -> None:
    expected = total(load_rewards(default_rewards(TASK), TASK), REPLIES, **COLUMNS)
    prompts = [TASK.messages("?")] * len(REPLIES)
    whole = trl.gsm8k
    assert whole.__name__ == "gsm8k"
    assert whole(prompts=prompts, completions=REPLIES, trainer_state=None, **COLUMNS) == [
        paid.value for paid in expected
    ]
    one = trl.gsm8k_int_reward_func
    assert one(prompts=prompts, completions=REPLIES, **COLUMNS) == [
        paid.parts["int_reward_func"] for paid in expected
    ]


@pytest.mark.parametrize("name", ["gsm", "gsm8k_", "gsm8k_corectness", "no_task"])
def test_a_name_that_no_task_has_is_no_attribute(name: str) -> None:
    with pytest.raises(AttributeError, match=r"expected TASK or|no reward is named"):
        getattr(trl, name)


@pytest.mark.parametrize(
    ("reply", "score", "acc"),
    [
        pytest.param(REPLIES[0], 4.0, 1.0, id="right"),
        pytest.param(REPLIES[1], 2.0, 0.0, id="wrong"),
        pytest.param("", 0.0, 0.0, id="empty"),
    ],
)
def test_verl_is_paid_by_the_name_of_its_rows(reply: str, score: float, acc: float) -> None:
    row = verl.row(TASK, EXAMPLE)
    truth = row["reward_model"]["ground_truth"]
    paid = verl.compute_score(row["data_source"], reply, truth, row["extra_info"], num_turns=1)
    assert (paid["score"], paid["acc"]) == (score, acc)
    assert paid["score"] == sum(part for name, part in paid.items() if name.endswith("_func"))


def test_rows_are_written_in_another_trainers_form(tmp_path: Path) -> None:
    class Makes:
        """GSM8K's own reading, with rows made on the spot."""

        name, dataset, dataset_config, dataset_revision = "gsm8k", "", None, None
        example, row, messages, grade = TASK.example, TASK.row, TASK.messages, TASK.grade

        def generated(self, count: int, seed: int) -> list[dict[str, str]]:
            return [{"question": f"{n}?", "answer": f"{n + seed}\n#### {n}"} for n in range(count)]

    [test, train] = write_rows(Makes(), tmp_path, train=2, test=1, seed=0, trainer="trl")
    rows = [json.loads(line) for path in (test, train) for line in path.read_text().splitlines()]
    assert [row["answer"] for row in rows] == ["0", "1", "2"]
    assert rows[0]["prompt"] == TASK.messages("0?")
    assert list(rows[0]) == ["prompt", "answer", "id", "question", "judge"]
