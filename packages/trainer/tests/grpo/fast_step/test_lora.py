"""The fused LoRA projection against peft's own, forwards and backwards."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from xmlgrpo_trainer.grpo.fast_step.lora import fuse_lora


class Small(nn.Module):
    """Two projections, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.config = {"model_type": "small"}
        self.first = nn.Linear(12, 20, bias=False)
        self.second = nn.Linear(20, 8, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.second(torch.tanh(self.first(inputs)))
        return outputs


def adapted(**changes: Any) -> Any:
    torch.manual_seed(0)
    config = {"r": 4, "lora_alpha": 12, "target_modules": ["first", "second"]}
    model = get_peft_model(Small(), LoraConfig(**(config | changes)))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    return model


def outputs_and_gradients(model: Any, inputs: torch.Tensor) -> list[torch.Tensor]:
    inputs = inputs.clone().requires_grad_()
    outputs = model(inputs)
    outputs.square().sum().backward()
    trained = [p.grad for p in model.parameters() if p.requires_grad]
    return [outputs.detach(), inputs.grad, *trained]


@pytest.mark.parametrize("shape", [(12,), (5, 12), (2, 7, 12)], ids=str)
def test_outputs_and_gradients_are_pefts(shape):
    torch.manual_seed(1)
    inputs = torch.randn(shape).double()  # in float32 each CPU rounds in its own places
    expected = outputs_and_gradients(adapted().double(), inputs)
    model = adapted().double()
    assert fuse_lora(model) == 2
    found = outputs_and_gradients(model, inputs)
    assert len(found) == len(expected) == 6
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


def test_only_what_is_computed_is_differentiated():
    model = adapted()
    fuse_lora(model)
    model(torch.randn(3, 12)).sum().backward()  # inputs without a gradient
    frozen = [p for name, p in model.named_parameters() if "lora" not in name]
    assert all(weight.grad is None for weight in frozen)


def test_a_switched_off_adapter_stays_off():
    inputs = torch.randn(3, 12)
    model = adapted()
    fuse_lora(model)
    with model.disable_adapter():
        off = model(inputs)
    torch.testing.assert_close(
        off,
        model.get_base_model().second.base_layer(
            torch.tanh(model.get_base_model().first.base_layer(inputs))
        ),
    )
    assert not torch.allclose(off, model(inputs))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"lora_dropout": 0.1}, id="dropout"),
        pytest.param({"use_dora": True}, id="dora"),
        pytest.param(
            {"lora_bias": True},
            id="lora-bias",
            # peft says that such an adapter cannot be merged
            marks=pytest.mark.filterwarnings("ignore:.*lora_bias"),
        ),
    ],
)
def test_other_adapters_are_left_to_peft(changes):
    assert fuse_lora(adapted(**changes)) == 0


def test_a_projection_with_a_bias_stays_as_peft_made_it():
    model = adapted()
    model.get_base_model().second.base_layer.bias = nn.Parameter(torch.ones(8))
    expected = model(torch.ones(3, 12))
    assert fuse_lora(model) == 1
    torch.testing.assert_close(model(torch.ones(3, 12)), expected)
