"""A run begins at the base: what an adapter may change before the first step, and what not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.config import KasaConfig
from transformers import PreTrainedModel

from small_models import tiny, tiny_gemma
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.early_check import check_beginning
from xmlgrpo_trainer.config.run_config import RunConfig
from xmlgrpo_trainer.model.reference import (
    Probe,
    check_frozen,
    check_head,
    check_start,
    probe,
)

VOCABULARY = 300  # bytes and more


def gemma() -> PreTrainedModel:
    """A model without biases."""
    return tiny_gemma(vocab_size=VOCABULARY)


def qwen() -> PreTrainedModel:
    """A model with biases."""
    model: PreTrainedModel = tiny("qwen-2.5", vocab_size=VOCABULARY)
    return model


def started(
    make: Callable[[], PreTrainedModel], dtype: torch.dtype = torch.float32, **lora: Any
) -> tuple[PeftModel, Probe]:
    """A model under a fresh adapter, and what it said before."""
    model = make().to(dtype)
    base = probe(model, lambda text: {"input_ids": list(text.encode())})
    config = LoraConfig(**{"r": 4, "target_modules": ["q_proj", "v_proj", "up_proj"], **lora})
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    adapted.train()  # as trl has it
    return adapted, base


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@DTYPES
@pytest.mark.parametrize(
    "lora",
    [
        pytest.param({}, id="default"),
        pytest.param({"lora_dropout": 0.5}, id="dropout"),
        pytest.param({"init_lora_weights": "gaussian"}, id="gaussian"),
        pytest.param({"init_lora_weights": "orthogonal"}, id="orthogonal"),
        pytest.param({"init_lora_weights": "mica"}, id="mica"),
        pytest.param({"use_dora": True}, id="dora"),
        pytest.param({"use_rslora": True, "lora_alpha": 512, "r": 32}, id="rslora"),
        pytest.param({"rank_pattern": {"q_proj": 1}}, id="rank-pattern"),
        pytest.param({"bias": "all"}, id="bias-where-there-is-none"),
    ],
)
def test_an_adapter_that_is_no_change_is_the_base_on_and_off(
    lora: dict[str, Any], dtype: torch.dtype
) -> None:
    adapted, base = started(gemma, dtype, **lora)
    check_start(adapted, base, beta=0.04)
    assert adapted.training


@DTYPES
@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
def test_what_moves_frozen_weights_into_the_adapter_goes_without_a_reference_only(
    start: str, dtype: torch.dtype
) -> None:
    adapted, base = started(gemma, dtype, init_lora_weights=start)
    check_start(adapted, base, beta=0)
    with pytest.raises(UserError, match=r"adapter switched off the model is not the base.*beta=0"):
        check_start(adapted, base, beta=0.04)


@pytest.mark.parametrize("beta", [0, 0.04])
@pytest.mark.parametrize(
    ("lora", "refusal"),
    [
        pytest.param({"init_lora_weights": False}, "not be the base", id="random"),
        pytest.param({"kasa_config": KasaConfig()}, "(is not|not be) the base", id="kasa"),
        # as the libraries are locked, no model runs with it
        pytest.param({"layer_replication": [[0, 2], [0, 2]]}, "the model cannot run", id="layers"),
    ],
)
def test_what_changes_the_model_before_the_first_step_is_refused(
    lora: dict[str, Any], refusal: str, beta: float
) -> None:
    adapted, base = started(qwen, **lora)
    with pytest.raises(UserError, match=refusal) as caught:
        check_start(adapted, base, beta)
    assert "\n" not in str(caught.value)


def test_an_initialisation_that_nobody_thought_of_is_seen_on_the_model() -> None:
    adapted, base = started(gemma)
    with torch.no_grad():
        adapted.get_parameter("base_model.model.model.layers.1.self_attn.v_proj.base_layer.weight")[
            :4
        ].zero_()
    with pytest.raises(UserError, match=r"off by [0-9.]+%"):
        check_start(adapted, base, beta=0.04)
    with pytest.raises(UserError, match="before the first step"):
        check_start(adapted, base, beta=0)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_a_reference_that_is_trained_is_refused(bias: str) -> None:
    adapted, base = started(qwen, bias=bias)
    check_start(adapted, base, beta=0)
    with pytest.raises(UserError, match=r"q_proj.*bias\), and .*set lora\.bias=none"):
        check_start(adapted, base, beta=0.04)
    check_frozen(
        started(qwen, lora_bias=True, target_modules=["q_proj"])[0], beta=0.04
    )  # a bias of the adapter's own


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga"])
def test_known_ones_are_refused_by_name(start: str) -> None:
    lora = {"init_lora_weights": start}
    check_beginning(RunConfig(lora=lora))
    with pytest.raises(UserError, match=rf"init_lora_weights={start} moves .*; set grpo\.beta=0"):
        check_beginning(RunConfig(lora=lora, grpo={"beta": 0.001}))


@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_a_random_adapter_is_refused_by_name(beta: float) -> None:
    with pytest.raises(UserError, match="init_lora_weights is false"):
        check_beginning(RunConfig(lora={"init_lora_weights": False}, grpo={"beta": beta}))


HEADS: dict[str, dict[str, Any]] = {
    "plain": {"family": "llama-3"},
    "granites-factor": {"family": "granite-3", "logits_scaling": 4.0},
    "coheres-factor": {"family": "cohere", "logit_scale": 0.25},
    "a-cap": {"family": "gemma-2", "final_logit_softcapping": 3.0},
}


@pytest.mark.parametrize("head", HEADS)
def test_trl_computes_the_logits_that_a_model_has(head: str) -> None:
    adapted, base = started(lambda: tiny(**HEADS[head], vocab_size=VOCABULARY))
    check_head(adapted, base)
    assert adapted.training
    if head == "granites-factor":
        assert adapted.config.logit_scale == 1 / 4


def test_a_head_that_does_more_is_refused() -> None:
    adapted, base = started(lambda: tiny(**HEADS["plain"], vocab_size=VOCABULARY))
    more = Probe(base.ids, 2 * base.logits)  # by a factor that nobody has thought of
    with pytest.raises(UserError, match=r"LlamaForCausalLM: its logits are more than its head"):
        check_head(adapted, more)
