"""A frozen norm gives what transformers' own gives, forwards and backwards."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

pytestmark = pytest.mark.gpu
SIZES = {"vocab_size": 61, "hidden_size": 36, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}


@pytest.mark.parametrize("family", ["gemma3_text", "llama", "qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_and_gradients_are_transformers_own(family: str, dtype: torch.dtype) -> None:
    from xmlgrpo_trainer.grpo.fast_step.norms import freeze_norms

    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES, **HEADS)
    model: Any = AutoModelForCausalLM.from_config(config).to("cuda", dtype).requires_grad_(False)
    for norm in (one for one in model.modules() if type(one).__name__.endswith("RMSNorm")):
        torch.nn.init.normal_(norm.weight, std=0.5)

    def learnt(of: Any) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(1)
        embedded = torch.randn(3, 7, 36, device="cuda").to(dtype).requires_grad_()
        logits = of(inputs_embeds=embedded).logits
        (grad,) = torch.autograd.grad((logits * torch.randn_like(logits)).sum(), embedded)
        return logits.float(), grad.float()

    expected = learnt(model)
    per_layer = {"gemma3_text": 6, "llama": 2, "qwen3": 4}[family]
    assert freeze_norms(model) == 2 * per_layer + 1
    limit = 1e-5 if dtype == torch.float32 else 3e-2
    for one, other in zip(learnt(model), expected, strict=True):
        assert (one - other).norm() < limit * other.norm()
