"""A packed row gives what padded rows give: log-probabilities, entropies and every gradient."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from small_models import tiny, tiny_gemma
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.grpo.lost_batches import COUNT
from xmlgrpo_trainer.grpo.packed_step.layout import pack
from xmlgrpo_trainer.grpo.packed_step.step import (
    leave_out_rows_without_advantage,
    rows_with_advantage,
    use_packed_rows,
)

TEMPERATURE = 0.8
WINDOW = 5  # shorter than the texts
WINDOWED = ("gemma-3", "mistral-with-a-window", "qwen-2-with-windows")
FAMILIES = (*WINDOWED, "llama-3", "qwen-3", "smollm-3")
# prompt, completion: groups of three and two, one alone, a prompt that is another's beginning, a
# completion of one token, and one that is masked as a whole
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [5, 6], [12, 13, 14]]
ROWS = [(0, 9), (1, 1), (0, 4), (2, 3), (0, 1), (1, 7), (2, 0)]


def small(family: str) -> Any:
    window = {"sliding_window": WINDOW} if family in WINDOWED else {}
    make = tiny_gemma if family == "gemma-3" else partial(tiny, family, num_key_value_heads=2)
    model = make(initializer_range=0.2, **window)
    torch.manual_seed(0)
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(model, lora)


def batch() -> tuple[torch.Tensor, torch.Tensor, int]:
    """As trl pads it: ids, mask, and the columns of the completions."""
    torch.manual_seed(1)
    width, length = max(map(len, PROMPTS)), max(length for _, length in ROWS)
    ids = torch.zeros(len(ROWS), width + length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (prompt, written) in enumerate(ROWS):
        start = width - len(PROMPTS[prompt])
        ids[row, start:width] = torch.tensor(PROMPTS[prompt])
        ids[row, width : width + written] = torch.randint(3, 61, (written,))
        mask[row, start : width + written] = 1
    return ids, mask, length


def trainer_of(model: Any) -> Any:
    """What is asked of trl's trainer."""
    return SimpleNamespace(
        model=model,
        accelerator=Accelerator(cpu=True),
        args=SimpleNamespace(steps_per_generation=1, gradient_accumulation_steps=1),
        temperature=TEMPERATURE,
        loss_type="dapo",
        top_entropy_quantile=1.0,
        _entropy_bonus_enabled=False,
        _get_per_token_logps_and_entropies=None,
        _prepare_inputs=None,
    )


def padded(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask, length = batch()
    logits = model(input_ids=ids, attention_mask=mask).logits[:, -length - 1 : -1] / TEMPERATURE
    logs = logits.log_softmax(-1)
    entropies = -(logs.exp() * logs).sum(-1)
    is_token = mask[:, -length:].bool()
    found = logs.gather(2, ids[:, -length:, None])[:, :, 0]
    return found.masked_fill(~is_token, 0), entropies.masked_fill(~is_token, 0)


def gradients(model: Any, logprobs: torch.Tensor) -> list[torch.Tensor]:
    torch.manual_seed(2)
    (logprobs * torch.randn(logprobs.shape)).sum().backward()
    return [p.grad for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("family", FAMILIES)
def test_all_is_as_with_padding(family: str) -> None:
    checkpointing = family in {"gemma-3", "llama-3"}  # layers are then computed again
    model = small(family)
    expected, expected_entropies = padded(model)
    expected_gradients = gradients(model, expected)
    model = small(family).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    trainer = trainer_of(model)
    use_packed_rows(trainer)
    found, entropies, _ = trainer._get_per_token_logps_and_entropies(
        model, *batch(), compute_entropy=True
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropies, expected_entropies, rtol=1e-5, atol=1e-5)
    found_gradients = gradients(model, found)
    assert len(found_gradients) == len(expected_gradients) > 20
    for one, other in zip(found_gradients, expected_gradients, strict=True):
        assert (one - other).norm() < 1e-5 * other.norm()
    # a pass without a layout, as an evaluation makes it, is what it was
    with torch.no_grad():
        torch.testing.assert_close(padded(model)[0], expected, rtol=1e-5, atol=1e-5)
        parts, _, _ = trainer._get_per_token_logps_and_entropies(model, *batch(), batch_size=2)
    torch.testing.assert_close(parts, expected, rtol=1e-5, atol=1e-5)


def learnt_on_a_gpu(
    family: str, dtype: torch.dtype, pack_rows: Callable[[Any], None] | None
) -> list[torch.Tensor]:
    ids, mask, length = batch()
    model = small(family).train()
    with (
        torch.no_grad()
    ):  # the same weights in either type; not its buffers, which it computes with
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    model.to("cuda", dtype)
    trainer = trainer_of(model)
    trainer.accelerator = SimpleNamespace(
        num_processes=1, unwrap_model=lambda one: one, autocast=nullcontext
    )
    if pack_rows is not None:
        pack_rows(trainer)
        asked = ids.to("cuda"), mask.to("cuda"), length
        found, _, _ = trainer._get_per_token_logps_and_entropies(model, *asked)
    else:
        logits = model(input_ids=ids.to("cuda"), attention_mask=mask.to("cuda")).logits
        logs = (logits[:, -length - 1 : -1].float() / TEMPERATURE).log_softmax(-1)
        found = logs.gather(2, ids[:, -length:, None].to("cuda"))[:, :, 0]
        found = found.masked_fill(~mask[:, -length:].bool().to("cuda"), 0)
    return [one.float() for one in gradients(model, found.float().cpu())]


def error(found: list[torch.Tensor], exact: list[torch.Tensor]) -> float:
    pairs = zip(found, exact, strict=True)
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


@pytest.mark.gpu
@pytest.mark.parametrize("family", ["gemma-3", "llama-3", "qwen-3"])
def test_one_call_for_all_spans_is_as_near_to_exact_as_padding(family: str) -> None:
    exact = learnt_on_a_gpu(family, torch.float32, None)
    padded_error, packed_error = (
        error(learnt_on_a_gpu(family, torch.bfloat16, way), exact)
        for way in (None, use_packed_rows)
    )
    assert packed_error < 2 * padded_error


def test_every_prompt_lies_there_once_and_nothing_else_does() -> None:
    packed = pack(*batch())
    assert len(packed.tokens) == sum(map(len, PROMPTS)) + sum(max(0, n - 1) for _, n in ROWS)
    assert len(packed.labels) == len(packed.reads) == sum(length for _, length in ROWS)
    ends = [span.start + span.length for span in packed.spans]
    assert [0, *ends] == [*(span.start for span in packed.spans), len(packed.tokens)]
    visible = packed.visible
    assert visible.query_ends.tolist() == [0, *ends]
    parts = visible.seen.tensor_split(visible.key_ends[1:-1].long())
    for span, keys in zip(packed.spans, parts, strict=True):
        assert len(keys) == span.seen <= visible.most_keys
        texts = packed.tokens[keys].tolist()
        assert texts == [
            *packed.tokens[span.prefix_start :][: span.prefix_length].tolist(),
            *packed.tokens[span.start :][: span.length].tolist(),
        ]


def test_rows_without_advantage_are_left_out_but_one() -> None:
    inputs = {
        "advantages": torch.tensor([0.0, 1.0, 0.0, -1.0]),
        "completion_mask": torch.tensor([[1, 1], [1, 1], [1, 0], [1, 0]]),
        "num_items_in_batch": torch.tensor(6),
        "num_images": None,
    }
    alone = Accelerator(cpu=True)
    kept = rows_with_advantage(inputs, alone)
    assert kept["advantages"].tolist() == [1.0, -1.0]
    assert kept["completion_mask"].tolist() == [[1, 1], [1, 0]]
    assert kept["num_items_in_batch"] == 6
    none = rows_with_advantage({**inputs, "advantages": torch.zeros(4)}, alone)
    assert none["completion_mask"].tolist() == [[1, 0]]
    masked = torch.tensor([[1, 1], [0, 0], [0, 0], [0, 0]])  # as trl masks those that were cut
    cut = {**inputs, "advantages": torch.zeros(4), "completion_mask": masked}
    assert rows_with_advantage(cut, alone)["completion_mask"].tolist() == [[1, 1]]
    assert rows_with_advantage(kept, alone) is kept
    # another process has three: trl gathers numbers of each row, so this one takes a short one too
    other: Any = SimpleNamespace(gather=lambda count: torch.cat([count, torch.tensor([3])]))
    more = rows_with_advantage(inputs, other)
    assert more["advantages"].tolist() == [1.0, 0.0, -1.0]
    assert more["completion_mask"].tolist() == [[1, 1], [1, 0], [1, 0]]


def test_a_loss_is_told_of_how_many_completions_it_gets_a_part() -> None:
    told: list[int] = []
    trainer: Any = SimpleNamespace(
        loss_type="dapo",
        beta=0.0,
        top_entropy_quantile=1.0,
        _entropy_bonus_enabled=False,
        accelerator=Accelerator(cpu=True),
        _compute_loss=lambda _, kept: told.extend((len(kept["advantages"]), kept[COUNT])),
    )
    leave_out_rows_without_advantage(trainer)
    mask = torch.ones(4, 2)
    inputs = {"advantages": torch.tensor([0.0, 1.0, 0.0, -1.0]), "completion_mask": mask}
    trainer._compute_loss(None, inputs)
    assert told == [2, 4]


@pytest.mark.parametrize("name", ["bias", "soft-capping"])
def test_a_head_of_another_kind_is_refused(name: str) -> None:
    model = small("gemma-3")
    if name == "bias":
        model.base_model.model.lm_head.bias = torch.nn.Parameter(torch.zeros(61))
    else:
        model.config.get_text_config().final_logit_softcapping = 30.0
    with pytest.raises(UserError, match="a head without bias and soft-capping"):
        use_packed_rows(trainer_of(model))


def test_a_model_of_another_kind_is_refused() -> None:
    config = AutoConfig.for_model("gpt2", vocab_size=61, n_embd=32, n_layer=1, n_head=2)
    model = AutoModelForCausalLM.from_config(config)
    model.model = model.transformer
    with pytest.raises(UserError, match="got GPT2Model; set packed_rows to false"):
        use_packed_rows(trainer_of(model))
