"""Steps that draw more groups than they learn from, and which they keep."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import render
from xmlgrpo_rewards.task import Example, get_task
from xmlgrpo_trainer.config.run_config import SamplingConfig
from xmlgrpo_trainer.grpo.draws import FILE, DrawnBatches, make_draws
from xmlgrpo_trainer.grpo.rewards import Scored

GROUP = 4
PROBLEMS = [Example(f"p{number}", f"{number}+0?", str(number), "") for number in range(6)]
# how many of a problem's completions are right; those of problem 5 differ in their form alone
RIGHT = (0, 1, 2, 3, 4, 0)


class Trainer(SimpleNamespace):
    """What is used of trl's: its rows, its groups, its metrics, and a batch of what was asked."""

    def __init__(self, batch: list[Scored]) -> None:
        super().__init__(num_generations=GROUP, _metrics={"train": defaultdict(list)})
        self.train_dataset = Dataset.from_list([{"prompt": p.question} for p in PROBLEMS])
        self.batch = batch
        self.asked: list[int] = []

    def _generate_and_score_completions(self, inputs: Sequence[Any]) -> dict[str, Any]:
        questions = [row["prompt"] for row in inputs]
        assert questions[::GROUP] == questions[1::GROUP] == questions[GROUP - 1 :: GROUP]
        self.asked = [int(question[0]) for question in questions[::GROUP]]
        rewards = []
        self.batch.clear()
        for number in self.asked:
            right = [place < RIGHT[number] for place in range(GROUP)]
            replies = [render("a sum", str(number) if is_right else "99") for is_right in right]
            self.batch += [Scored(PROBLEMS[number], reply, {}) for reply in replies]
            rewards.append([2.1 * is_right for is_right in right])
            if number == 5:
                rewards[-1] = [0.0, 0.5, 0.0, 0.0]
        rewards_P_G = torch.tensor(rewards)
        count = len(inputs)
        lengths = torch.arange(count) % 5 + 1
        return {
            "completion_ids": torch.tensor(self.asked).repeat_interleave(GROUP)[:, None],
            "completion_mask": (torch.arange(5)[None] < lengths[:, None]).long(),
            "advantages": (rewards_P_G - rewards_P_G.mean(dim=1, keepdim=True)).flatten(),
            "num_items_in_batch": torch.tensor(1e9),
            "sampling_per_token_logps": None,
        }


def drawn(draw: float, wanted: int) -> tuple[Any, dict[str, Any]]:
    batch: list[Scored] = []
    trainer = Trainer(batch)
    draws = make_draws(SamplingConfig(draw=draw), PROBLEMS, seed=0)
    DrawnBatches(trainer, draws, batch, get_task("gsm8k"))
    return trainer, trainer._generate_and_score_completions([None] * wanted * GROUP)


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        pytest.param(3, {1, 2, 3}, id="some-right-and-some-wrong"),
        pytest.param(4, {1, 2, 3, 5}, id="then-what-differs-in-form"),
    ],
)
def test_groups_that_teach_are_kept(wanted: int, kept: set[int]) -> None:
    trainer, found = drawn(6 / wanted, wanted)
    assert sorted(trainer.asked) == [0, 1, 2, 3, 4, 5]
    ids = found["completion_ids"].flatten().tolist()
    assert set(ids) == kept
    assert ids == [number for number in trainer.asked if number in kept for _ in range(GROUP)]
    assert found["num_items_in_batch"] == found["completion_mask"].sum()
    assert found["sampling_per_token_logps"] is None
    assert found["advantages"].view(-1, GROUP).abs().sum(dim=1).min() > 0


def test_a_batch_is_filled_with_what_does_not_teach_and_says_so() -> None:
    trainer, found = drawn(1.0, 6)
    assert len(found["advantages"]) == 6 * GROUP
    metrics = trainer._metrics["train"]
    assert metrics["draws/mixed_groups"] == [pytest.approx(3 / 6)]
    tokens = found["completion_mask"].view(6, -1).sum(dim=1)
    teaching = [number in (1, 2, 3, 5) for number in trainer.asked]
    assert metrics["draws/taught_tokens"] == [
        pytest.approx(float(tokens[teaching].sum() / tokens.sum()))
    ]
    assert metrics["draws/in_band"] == [6.0]


def test_trls_own_batch_is_told_of_and_left_alone() -> None:
    batch: list[Scored] = []
    trainer = Trainer(batch)
    DrawnBatches(trainer, None, batch, get_task("gsm8k"))
    inputs = [dict(row) for row in trainer.train_dataset for _ in range(GROUP)]
    found = trainer._generate_and_score_completions(inputs)
    assert trainer.asked == [0, 1, 2, 3, 4, 5]
    assert found["num_items_in_batch"] == 1e9
    assert trainer._metrics["train"]["draws/mixed_groups"] == [pytest.approx(3 / 6)]
    assert "draws/in_band" not in trainer._metrics["train"]


def test_replies_renew_the_rates() -> None:
    batch: list[Scored] = []
    trainer = Trainer(batch)
    draws = make_draws(SamplingConfig(band=[0.25, 0.75]), PROBLEMS, seed=0)
    DrawnBatches(trainer, draws, batch, get_task("gsm8k"))
    trainer._generate_and_score_completions([None] * 6 * GROUP)
    assert trainer._metrics["train"]["draws/in_band"] == [3.0]


def test_a_step_that_fails_has_drawn_nothing(tmp_path: Path) -> None:
    batch: list[Scored] = []
    trainer = Trainer(batch)
    setattr(trainer, "_generate_and_score_completions", lambda _: 1 / 0)  # noqa: B010 - a method
    draws = make_draws(SamplingConfig(draw=2.0), PROBLEMS, seed=0)
    callback = DrawnBatches(trainer, draws, batch, get_task("gsm8k"))
    before = draws.state()
    with pytest.raises(ZeroDivisionError):
        trainer._generate_and_score_completions([None] * GROUP)
    assert draws.state() == before
    draws.take(3)
    (tmp_path / "checkpoint-7").mkdir()
    callback.on_save(SimpleNamespace(output_dir=tmp_path), SimpleNamespace(global_step=7), None)
    other = make_draws(SamplingConfig(draw=2.0), PROBLEMS, seed=0)
    DrawnBatches(trainer, other, batch, get_task("gsm8k")).go_on(tmp_path / "checkpoint-7")
    assert (tmp_path / "checkpoint-7" / FILE).exists()
    assert other.state() == draws.state()


def test_rates_of_other_problems_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rates.jsonl"
    path.write_text('{"question": "What?", "right": 1, "asked": 8}\n')
    settings = SamplingConfig(band=[0.1, 0.9], rates=str(path))
    with pytest.raises(UserError, match=r"got 1 of others in .*make passrate"):
        make_draws(settings, PROBLEMS, seed=0)
