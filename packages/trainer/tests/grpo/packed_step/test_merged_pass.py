"""The engine's weights in training: numbers and gradients as with the adapter beside them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from small_models import EOS, PAD, disturb, tiny, tiny_gemma
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.cpu.engine import StaticEngine
from xmlgrpo_trainer.grpo.packed_step.merged_pass import MergedPass
from xmlgrpo_trainer.grpo.packed_step.step import use_packed_rows

from .test_gradients import (
    FAMILIES,
    batch,
    error,
    gradients,
    learnt_on_a_gpu,
    padded,
    small,
    trainer_of,
)

WITHIN = 3e-5  # float32, of gradients through W + s B A that is summed before it is multiplied


def merged(model: Any, *, checkpointing: bool = False, uses: int = 1, draws: bool = True) -> Any:
    """What is asked of trl's trainer, its packed rows computed with the engine's weights."""
    trainer = trainer_of(model)
    trainer.args.gradient_checkpointing = checkpointing
    trainer.args.num_iterations = uses
    merge(trainer, StaticEngine(model, [EOS], PAD), draws=draws)
    return trainer


def merge(trainer: Any, engine: Any, *, draws: bool = True) -> None:
    trainer.engine, trainer.state = engine, SimpleNamespace(global_step=0)
    use_packed_rows(trainer, MergedPass(trainer, engine, draws=draws))


def learnt(trainer: Any) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    trainer.model.zero_grad()
    logprobs, entropies, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, *batch(), compute_entropy=True
    )
    return logprobs, entropies, gradients(trainer.model, logprobs)


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor], within: float) -> None:
    assert len(found) == len(expected) > 10
    for one, other in zip(found, expected, strict=True):
        assert other.norm() > 0
        assert (one - other).norm() < within * other.norm()


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "computed-again"])
@pytest.mark.parametrize("family", [*FAMILIES, "llama-with-biases"])
def test_all_is_as_with_padding(family: str, checkpointing: bool) -> None:
    model = small(family).train()
    expected, expected_entropies = padded(model)
    expected_gradients = gradients(model, expected)
    model = small(family).train()
    found, entropies, found_gradients = learnt(merged(model, checkpointing=checkpointing))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropies, expected_entropies, rtol=1e-5, atol=1e-5)
    assert_same(found_gradients, expected_gradients, WITHIN)


@pytest.mark.gpu
@pytest.mark.parametrize("family", ["gemma-3", "llama-3", "qwen-3"])
def test_kernels_are_as_near_to_exact_as_padding(family: str) -> None:
    from xmlgrpo_rollout.gpu.engine import GraphEngine

    def with_kernels(trainer: Any) -> None:
        trainer.args.gradient_checkpointing, trainer.args.num_iterations = False, 1
        merge(trainer, GraphEngine(trainer.model, [EOS], PAD))

    exact = learnt_on_a_gpu(family, torch.float32, None)
    assert error(learnt_on_a_gpu(family, torch.float32, with_kernels), exact) < 1e-4
    padded_error, merged_error = (
        error(learnt_on_a_gpu(family, torch.bfloat16, way), exact) for way in (None, with_kernels)
    )
    assert merged_error < 4 * padded_error  # its weights are rounded once more, after the sum


def test_some_projections_have_an_adapter_and_ranks_and_scales_differ() -> None:
    lora = LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=["q_proj", "v_proj", "up_proj", "o_proj"],
        rank_pattern={"v_proj": 2},
        alpha_pattern={"up_proj": 32},
        init_lora_weights=False,
    )
    torch.manual_seed(0)
    model = get_peft_model(tiny_gemma(), lora)
    expected = padded(model)[0]
    expected_gradients = gradients(model, expected)
    found, _, found_gradients = learnt(merged(model))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert_same(found_gradients, expected_gradients, WITHIN)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"uses": 2}, id="a-batch-is-learnt-from-twice"),
        pytest.param({"draws": False}, id="another-engine-draws-with-8-bits"),
    ],
)
def test_an_update_arrives_where_no_rollout_of_the_engine_lies_between(how: Any) -> None:
    model = small("gemma-3")
    trainer = merged(model, **how)
    learnt(trainer)
    disturb(model, seed=5)
    trainer.state.global_step += 1
    found, _, found_gradients = learnt(trainer)
    model.zero_grad()
    expected = padded(model)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert_same(found_gradients, gradients(model, expected), WITHIN)


def test_where_a_rollout_lies_between_it_reads_the_weights_and_nothing_else_does() -> None:
    model = small("gemma-3")
    trainer = merged(model)
    reads: list[int] = []
    refresh = trainer.engine.refresh

    def counted() -> None:
        reads.append(trainer.state.global_step)
        refresh()

    trainer.engine.refresh = counted
    learnt(trainer)
    disturb(model, seed=5)
    trainer.state.global_step += 1
    trainer.engine.refresh()  # as a rollout does
    found, _, found_gradients = learnt(trainer)
    assert reads == [1]
    model.zero_grad()
    expected = padded(model)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert_same(found_gradients, gradients(model, expected), WITHIN)


def test_a_reference_is_the_model_without_its_adapter() -> None:
    model = small("llama-3")
    trainer = merged(model)
    with torch.no_grad(), model.disable_adapter():
        found, _, _ = trainer._get_per_token_logps_and_entropies(model, *batch())
        torch.testing.assert_close(found, padded(model)[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, padded(model)[0], rtol=1e-2, atol=1e-2)


def test_what_rounding_swallows_draws_and_learns_alike_but_is_kept() -> None:
    """In 16 bits the policy is what draws; the adapter stays exact, and gets its gradient."""
    model = small("gemma-3").to(torch.bfloat16)
    found = []
    for size in (0.0, 1e-9):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.fill_(size)
        found.append(learnt(merged(model)))
    (bare, _, bare_gradients), (moved, _, moved_gradients) = found
    assert torch.equal(bare, moved)
    exact = padded(in_float32(model))[0]
    assert (moved - exact).norm() < 0.05 * exact.norm()
    ups = [n for n, p in model.named_parameters() if p.requires_grad].index
    down, up = (next(n for n, _ in model.named_parameters() if f"lora_{x}" in n) for x in "AB")
    assert bare_gradients[ups(up)].norm() > 0 < moved_gradients[ups(down)].norm()


def in_float32(model: Any) -> Any:
    exact = small("gemma-3")
    exact.load_state_dict(model.state_dict())
    return exact


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        pytest.param({"lora_dropout": 0.1}, "without dropout", id="dropout"),
        pytest.param({"bias": "lora_only"}, "expected", id="bias"),
    ],
)
def test_another_adapter_is_refused(lora: dict[str, Any], said: str) -> None:
    base = tiny("llama-with-biases")
    model = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", **lora))
    with pytest.raises(UserError, match=f"merged_pass: .*{said}"):
        merged(model)
