"""Float16 factors and float32 sums: right where float16 itself overflows and vanishes."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.generate import head_in_float32
from xmlgrpo_trainer.config.run_config import ModelConfig, check_config
from xmlgrpo_trainer.grpo.fast_step.lora import fuse_lora
from xmlgrpo_trainer.model.float16_products import narrow_products, wide_product
from xmlgrpo_trainer.model.load import choose_placement

LOUD = 3000.0  # the residual stream of Gemma 3 has numbers of 10^5


def loud() -> Any:
    """A Gemma 3 whose norms, as the real one's, bring the residual stream out of float16."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 97, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16}
    config = Gemma3TextConfig(**sizes, **heads, initializer_range=0.2, sliding_window=8)
    model = Gemma3ForCausalLM(config)
    for layer in model.model.layers:
        for norm in (layer.post_attention_layernorm, layer.post_feedforward_layernorm):
            torch.nn.init.constant_(norm.weight, LOUD * 10)
    return model


def learnt(model: Any) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Log-probabilities, and the gradients of their mean over an adapter."""
    torch.manual_seed(1)
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(model, lora).train()
    is_narrow = model.lm_head.weight.dtype == torch.float16
    assert fuse_lora(adapted) == (0 if is_narrow else 21)
    ids = torch.randint(3, 97, (2, 20))
    output = adapted(input_ids=ids, output_hidden_states=True)
    logs = output.logits.log_softmax(-1)
    logs.gather(2, ids.roll(-1, 1)[:, :, None]).mean().mul(1e-6).backward()  # small as a real one
    streams = torch.stack([hidden.abs().max() for hidden in output.hidden_states])
    return logs.detach(), streams, [p.grad for p in adapted.parameters() if p.requires_grad]


def test_losses_and_gradients_are_those_of_float32_where_float16_overflows() -> None:
    expected, streams, gradients = learnt(loud())
    assert streams.max() > torch.finfo(torch.float16).max
    with torch.no_grad():
        assert not loud().half()(input_ids=torch.tensor([[5, 6, 7]])).logits.isfinite().all()
    model = loud()
    narrow_products(model)
    assert {p.dtype for n, p in model.named_parameters() if "norm" not in n} == {torch.float16}
    assert model.lm_head.weight is model.model.embed_tokens.weight
    found, _, found_gradients = learnt(model)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.02
    assert len(gradients) == len(found_gradients) == 42
    for one, other in zip(found_gradients, gradients, strict=True):
        assert 0 < (one - other).norm() < 0.01 * other.norm()


def test_generate_leaves_its_head_alone() -> None:
    model = loud()
    torch.nn.init.constant_(model.model.norm.weight, 1e5)  # what the head is given, too
    narrow_products(model)
    with torch.no_grad(), head_in_float32(model):
        logits = model(input_ids=torch.tensor([[5, 6, 7]])).logits
    assert logits.isfinite().all()


@pytest.mark.parametrize("size", [1e-30, 1e-9, 1.0, 1e9, 1e30])
def test_a_product_of_any_size_has_float16s_precision(size: float) -> None:
    torch.manual_seed(0)
    inputs, weight = torch.randn(5, 64), torch.randn(7, 64)
    inputs[3] = 0
    found = wide_product(inputs * size, weight.half())
    exact = (inputs.double() * size) @ weight.double().t()
    assert (found.double() - exact).norm() < 2**-10 * exact.norm()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({}, "needs packed_rows: true", id="rows"),
        pytest.param({"packed_rows": True}, "and rollout: generate", id="engine"),
        pytest.param({"model": {"load_in_4bit": True}}, "is for 16-bit weights", id="bits"),
    ],
)
def test_what_does_not_go_with_it_is_refused(changes: dict[str, Any], told: str) -> None:
    model = {"name": "google/gemma-3-1b-it", "float16_products": True}
    raw = {**changes, "model": {**model, **changes.get("model", {})}}
    with pytest.raises(UserError, match=told):
        check_config(raw, "test")


def test_a_model_in_bfloat16_is_refused() -> None:
    config = ModelConfig(name="x", float16_products=True, dtype="bfloat16", device="cpu")
    with pytest.raises(UserError, match="got bfloat16 and plain: set"):
        choose_placement(config)
