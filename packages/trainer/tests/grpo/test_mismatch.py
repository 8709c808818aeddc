"""Importance sampling against an engine that rounds: trl's numbers, without trl's extra pass."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from xmlgrpo_rollout.cpu.engine import StaticEngine
from xmlgrpo_rollout.engine import Completion, Sampling
from xmlgrpo_trainer.grpo.late_numbers import fetch_once
from xmlgrpo_trainer.grpo.lost_batches import (
    DIFFERENCE,
    DISCARDED,
    IMPOSSIBLE_FIRST,
    RATIO,
    why_lost,
)
from xmlgrpo_trainer.grpo.mismatch import (
    LateRatios,
    correct_mismatch,
    importance_ratio,
)
from xmlgrpo_trainer.grpo.packed_step.step import (
    leave_out_rows_without_advantage,
    use_packed_rows,
)


@pytest.mark.parametrize(
    ("mode", "low", "high", "expected"),
    [
        pytest.param("sequence_mask", None, 3.0, [[2.0], [0.0]], id="a-far-sequence-is-left-out"),
        pytest.param("sequence_mask", 2.5, None, [[0.0], [4.0]], id="below-the-lower-bound"),
        pytest.param("sequence_truncate", None, 3.0, [[2.0], [3.0]], id="a-far-sequence-is-cut"),
        pytest.param("token_mask", None, 1.5, [[0.0, 1.0], [0.0, 0.0]], id="far-tokens-out"),
        pytest.param("token_truncate", 1.2, 1.5, [[1.5, 1.2], [1.5, 1.5]], id="tokens-are-cut"),
    ],
)
def test_the_ratio_by_hand(mode: str, low: Any, high: Any, expected: list[list[float]]) -> None:
    # padding and what the engine does not know weigh nothing
    difference = torch.tensor([[2.0, 1.0, 9.0], [2.0, 2.0, torch.nan]]).log()
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    found = importance_ratio(difference, mask, mode, low, high)
    torch.testing.assert_close(found[:, :2], torch.tensor(expected))


POLICY = [[2.0, 1.0, 1.0], [4.0, 1.0, 1.0]]  # against an engine that is sure of every token


def corrected(mode: str, mask: list[list[int]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is logged of a batch, and the batch with its ratios."""
    policy = torch.tensor(POLICY).log()
    trainer: Any = SimpleNamespace(
        accelerator=Accelerator(cpu=True),
        vllm_importance_sampling_mode=mode,
        vllm_importance_sampling_clip_min=None,
        vllm_importance_sampling_clip_max=5.0,
        _metrics={"train": defaultdict(list)},
        _generate_and_score_completions=None,
        _get_per_token_logps_and_entropies=lambda *_: (policy, None, None),
    )
    trainer._compute_loss = lambda *_: trainer._get_per_token_logps_and_entropies(None, None)[0]
    LateRatios(trainer)
    inputs = {
        "completion_mask": torch.tensor(mask),
        "sampling_per_token_logps": torch.zeros(2, 3),
    }
    trainer._compute_loss(None, inputs)
    return trainer._metrics["train"], inputs


def test_a_sequences_ratio_counts_once_in_the_log_however_long_it_is() -> None:
    # ratios 2 and 4 of three tokens and one: (2 + 4) / 2, where tokens would say (3 * 2 + 4) / 4
    logged, inputs = corrected("sequence_mask", [[1, 1, 1], [1, 0, 0]])
    assert logged[f"{RATIO}/mean"] == [pytest.approx(3.0)]
    assert inputs["importance_sampling_ratio"].tolist() == [[pytest.approx(2)], [pytest.approx(4)]]


@pytest.mark.parametrize("mode", ["sequence_mask", "token_truncate"])
def test_a_batch_of_masked_completions_is_no_lost_one(mode: str) -> None:
    logged, _ = corrected(mode, [[0, 0, 0], [0, 0, 0]])
    assert [logged[f"{RATIO}/{name}"] for name in ("mean", "min", "max")] == [[1.0]] * 3
    assert why_lost({name: value for name, [value] in logged.items()}) is None


class Rounding:
    """An engine whose log-probabilities are a little off the policy's, always in the same way."""

    def __init__(self, model: Any, stops: Sequence[int], pad: int) -> None:
        self.model = model
        self.inner = StaticEngine(model, stops, pad)
        self.refreshed = 0

    def refresh(self) -> None:
        self.refreshed += 1
        self.inner.refresh()

    def __call__(
        self, prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling
    ) -> list[Completion]:
        noise = torch.Generator().manual_seed(7)
        found = self.inner(prompts, samples, sampling)
        return [
            Completion(drawn.tokens, self.logprobs(prompts[n // samples], drawn.tokens, noise))
            for n, drawn in enumerate(found)
        ]

    def logprobs(
        self, prompt: Sequence[int], tokens: list[int], noise: torch.Generator
    ) -> list[float]:
        ids = torch.tensor([[*prompt, *tokens]])
        with torch.no_grad():
            logits = self.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        exact = logits.log_softmax(-1)[range(len(tokens)), tokens]
        noised: list[float] = (exact + 0.05 * torch.randn(len(tokens), generator=noise)).tolist()
        return noised


def trained(
    base: Path, folder: Path, *, late: bool, packed: bool = False, **grpo: Any
) -> tuple[list[Any], Rounding, int]:
    """Three steps; what was logged, the engine, and how many forward passes the model made."""
    from transformers import set_seed

    from xmlgrpo_rewards.task import Example, get_task
    from xmlgrpo_rewards.total import WeightedReward
    from xmlgrpo_rollout.stop_tokens import stop_ids
    from xmlgrpo_trainer.config.run_config import check_config
    from xmlgrpo_trainer.grpo.rewards import trl_rewards
    from xmlgrpo_trainer.grpo.trainer import (
        build_arguments,
        build_trainer,
        rollout_function,
        training_rows,
    )
    from xmlgrpo_trainer.model.load import choose_placement, load_policy

    def length(completions: Sequence[Any], **_: Any) -> list[float]:
        return [float(len(reply[0]["content"])) for reply in completions]

    fields = {
        "max_steps": 3,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 12,
        "learning_rate": 1e-3,
        "save_strategy": "no",
        **grpo,
    }
    raw = {
        "model": {"name": str(base), "device": "cpu", "backend": "plain"},
        "lora": {"r": 4},
        "grpo": fields,
    }
    config, task = check_config(raw, "test"), get_task("gsm8k")
    placement = choose_placement(config.model)
    policy = load_policy(config, str(base), placement)
    problems = [Example(f"{n}", f"What is {n} + {n}?", f"{2 * n}", "") for n in range(1, 17)]
    set_seed(0)
    trainer = build_trainer(
        policy=policy,
        arguments=build_arguments(config, placement, folder, [1.0]),
        rows=training_rows(task, problems),
        rewards=trl_rewards([WeightedReward("length", 1.0, length)], []),
    )
    engine = Rounding(
        trainer.model, stop_ids(policy.model, policy.tokenizer), policy.tokenizer.pad_token_id
    )
    sampling = Sampling(12, temperature=1.0)
    trainer.rollout_func = rollout_function(engine, policy.tokenizer, sampling, 4)
    if packed:
        use_packed_rows(trainer)
        fetch_once(trainer)
    correct_mismatch(trainer, engine, is_trls_own=late)
    if packed:
        leave_out_rows_without_advantage(trainer)
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    logprobs = engine.logprobs

    def uncounted(prompt: Sequence[int], tokens: list[int], noise: torch.Generator) -> list[float]:
        nonlocal passes
        before = passes
        found = logprobs(prompt, tokens, noise)
        passes = before
        return found

    engine.logprobs = uncounted  # type: ignore[method-assign]  # counts around it
    policy.model.get_input_embeddings().register_forward_hook(count)
    trainer.train()
    return [row for row in trainer.state.log_history if "loss" in row], engine, passes


@pytest.mark.slow
@pytest.mark.parametrize(
    "grpo",
    [
        pytest.param({}, id="one-micro-batch"),
        pytest.param(
            {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}, id="two"
        ),
        pytest.param(
            {"beta": 0.1, "vllm_importance_sampling_mode": "token_truncate"},
            id="tokens-and-a-reference",
        ),
    ],
)
def test_late_ratios_are_trls_own_without_the_pass(
    tiny_base: Path, tmp_path: Path, grpo: dict[str, Any]
) -> None:
    own, engine, all_passes = trained(tiny_base, tmp_path / "own", late=False, **grpo)
    late, _, passes = trained(tiny_base, tmp_path / "late", late=True, **grpo)
    assert len(own) == len(late) == 3
    assert engine.refreshed == 3
    assert all_passes - passes == 3 * max(1, grpo.get("gradient_accumulation_steps", 1))
    for expected, found in zip(own, late, strict=True):
        assert set(found) - {DISCARDED, IMPOSSIBLE_FIRST} == set(expected)
        assert (found[DISCARDED], found[IMPOSSIBLE_FIRST]) == (0.0, 0.0)
        for name in ("loss", "grad_norm", "reward", f"{DIFFERENCE}/max", f"{RATIO}/max"):
            assert found[name] == pytest.approx(expected[name], rel=2e-3, abs=2e-5), name
        assert found[f"{RATIO}/min"] == pytest.approx(expected[f"{RATIO}/min"], rel=1e-4)
        assert found[f"{DIFFERENCE}/mean"] == pytest.approx(expected[f"{DIFFERENCE}/mean"], rel=0.1)
        assert found[f"{DIFFERENCE}/mean"] > 0.02


@pytest.mark.slow
def test_a_batch_that_is_used_twice_keeps_trls_own_pass(tiny_base: Path, tmp_path: Path) -> None:
    twice: dict[str, Any] = {"num_iterations": 2}
    own, _, all_passes = trained(tiny_base, tmp_path / "own", late=False, **twice)
    late, _, passes = trained(tiny_base, tmp_path / "late", late=True, **twice)
    assert all_passes == passes
    assert [row["loss"] for row in own] == [row["loss"] for row in late]
