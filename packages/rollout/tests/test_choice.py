"""What is decided from configurations alone is what is decided of the loaded model."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from small_models import (
    EOS,
    FAMILIES,
    Tokenizer,
    tiny,
    tiny_gemma,
    tiny_multimodal_gemma,
    with_lora,
)
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.choice import choose_engine, why_not_compiled
from xmlgrpo_rollout.which_engine import (
    NOT_PLAIN,
    is_packed,
    joined_reasons,
    name_engine,
    why_not_described,
    why_not_merged,
)

SMALL = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LINEAR = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
YARN = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e6}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "original_max_position_embeddings": 32,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0] * 4,
}
LOCAL = {"rope_type": "default", "rope_theta": 1e4}


def roped(full: dict[str, Any]) -> Any:
    return tiny_gemma(rope_parameters={"full_attention": full, "sliding_attention": LOCAL})


def other(kind: str, **more: Any) -> Any:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL, **more))
    model.config.architectures = [type(model).__name__]  # as `save_pretrained` does
    return model


def every_family(name: str) -> Any:
    return pytest.param(lambda: tiny(name), {}, "graph", id=name)


@pytest.mark.parametrize(
    ("make", "lora", "expected"),
    [
        pytest.param(tiny_gemma, {}, "graph", id="gemma"),
        pytest.param(tiny_multimodal_gemma, {}, "graph", id="gemma-with-vision"),
        pytest.param(lambda: roped(LINEAR), {}, "graph", id="linear-rope"),
        pytest.param(lambda: roped(YARN), {}, "graph", id="yarn"),
        pytest.param(lambda: tiny_gemma(attn_logit_softcapping=50.0), {}, "generate", id="capped"),
        pytest.param(lambda: tiny_gemma(attention_bias=True), {}, "graph", id="bias"),
        pytest.param(lambda: tiny_gemma(hidden_activation="silu"), {}, "graph", id="silu"),
        *map(every_family, FAMILIES),
        pytest.param(lambda: other("llama", hidden_act="gelu"), {}, "generate", id="gelu"),
        pytest.param(
            lambda: other("llama", rope_parameters=DYNAMIC), {}, "generate", id="dynamic-rope"
        ),
        pytest.param(
            lambda: other("phi3", pad_token_id=0, rope_parameters=LONG), {}, "generate", id="phi-4"
        ),
        pytest.param(lambda: other("cohere"), {}, "generate", id="cohere"),
        pytest.param(lambda: other("gemma2", head_dim=8), {}, "generate", id="gemma-2"),
        pytest.param(tiny_gemma, {"use_rslora": True}, "graph", id="rslora"),
        pytest.param(tiny_gemma, {"rank_pattern": {"q_proj": 2}}, "graph", id="ranks"),
        pytest.param(
            tiny_gemma,
            {"layers_to_transform": [1], "target_modules": ["q_proj"]},
            "graph",
            id="one-layer",
        ),
        pytest.param(tiny_gemma, {"init_lora_weights": "pissa"}, "graph", id="pissa"),
        pytest.param(tiny_gemma, {"use_dora": True}, "generate", id="dora"),
        pytest.param(tiny_gemma, {"alora_invocation_tokens": [3]}, "generate", id="alora"),
        pytest.param(tiny_gemma, {"init_lora_weights": "mica"}, "generate", id="mica"),
        pytest.param(tiny_gemma, {"modules_to_save": ["norm"]}, "generate", id="norm-in-full"),
        pytest.param(
            tiny_gemma,
            {"lora_bias": True},
            "generate",
            id="lora-bias",
            # peft says that such an adapter cannot be merged, which is the point here
            marks=pytest.mark.filterwarnings("ignore:.*lora_bias"),
        ),
    ],
)
def test_the_engine_is_the_same_before_and_after_loading(
    make: Callable[[], Any], lora: dict[str, Any], expected: str
) -> None:
    model = make()
    written = json.loads(model.config.to_json_string())  # as `config.json` holds it
    obstacle = joined_reasons(why_not_described(written), why_not_merged(lora))
    planned, reason = name_engine("auto", obstacle, packed=False, on_gpu=False)
    run = choose_engine("auto", with_lora(model, **lora), Tokenizer(), [EOS])
    assert (planned, run.name) == (expected, expected)
    assert reason == run.reason


@pytest.mark.parametrize(
    ("config", "says"),
    [
        pytest.param({"model_type": "gemma3_text"}, None, id="no-more-than-its-kind"),
        pytest.param({"rope_scaling": {"type": "linear", "factor": 8.0}}, None, id="older-rope"),
        pytest.param({"rope_scaling": {"type": "dynamic"}}, "rotary", id="older-dynamic"),
        pytest.param({"partial_rotary_factor": 0.5}, "of whole heads", id="half-turned"),
        pytest.param(
            {"rope_parameters": {"full_attention": {"partial_rotary_factor": 0.5}}},
            "of whole heads",
            id="half-turned-in-a-kind",
        ),
        pytest.param({"layer_types": ["chunked_attention"]}, "chunked", id="chunked"),
        pytest.param({"use_bidirectional_attention": True}, "causal", id="both-ways"),
        pytest.param({"model_type": "qwen3", "hidden_act": "relu"}, "relu", id="another-act"),
        pytest.param({"model_type": "llama", "rope_scaling": None}, None, id="llama-2"),
        pytest.param({"rope_scaling": "odd", "text_config": 3}, None, id="no-mappings"),
        pytest.param({"quantization_config": {"quant_method": "gptq"}}, "quantized", id="gptq"),
        pytest.param({"quantization_config": {"load_in_4bit": True}}, None, id="4-bits"),
        pytest.param(
            {"text_config": {"final_logit_softcapping": 30.0}}, "soft-capping", id="inner"
        ),
        pytest.param({"model_type": "gemma2"}, "type 'gemma2'", id="gemma-2"),
        pytest.param(
            {"model_type": "x", "architectures": ["XLM"]},
            "no recipe for XLM; it has one for exaone4, ",
            id="named",
        ),
    ],
)
def test_a_config_json_in_any_form_is_read(config: dict[str, Any], says: str | None) -> None:
    found = why_not_described({"model_type": "gemma3_text", **config})
    assert (found is None) == (says is None)
    assert says is None or says in str(found)


def test_weights_in_4_bits_are_generates_unless_asked_for() -> None:
    packed = is_packed({"quantization_config": {"quant_method": "x", "_load_in_4bit": True}})
    assert packed
    assert name_engine("auto", None, packed=packed, on_gpu=True)[0] == "generate"
    assert name_engine("graph", None, packed=packed, on_gpu=True)[0] == "graph"


def test_all_that_keeps_8_bits_away_is_named_at_once() -> None:
    model = {
        "model_type": "gemma3_text",
        "final_logit_softcapping": 30.0,
        "hidden_activation": "relu",
    }
    lora = {"use_dora": True, "lora_bias": True, "modules_to_save": ["lm_head"]}
    obstacle = joined_reasons(why_not_described(model), why_not_merged(lora))
    said = "rollout is 'vllm'; it knows no soft-capping.*, not relu; lm_head: .*use_dora, lora_bias"
    with pytest.raises(UserError, match=rf"^rollout_weights 'int8' needs the engine .*: {said}\."):
        name_engine("vllm", obstacle, packed=False, on_gpu=True, int8=True)


@pytest.mark.parametrize(
    ("asked", "obstacle", "packed", "advice"),
    [
        pytest.param("auto", None, True, ", or set rollout to 'graph'", id="it-would-cost-a-copy"),
        pytest.param("generate", None, False, ", or set rollout to 'graph'", id="another-asked"),
        pytest.param("generate", "it cannot", False, "", id="another-asked-and-it-cannot"),
        pytest.param("auto", "it cannot", True, "", id="it-cannot-and-would-cost-a-copy"),
        pytest.param("graph", "it cannot", False, "", id="asked-and-it-cannot"),
    ],
)
def test_graph_is_advised_for_8_bits_where_it_can_serve(
    asked: str, obstacle: str | None, *, packed: bool, advice: str
) -> None:
    with pytest.raises(UserError, match=rf"\. Leave rollout_weights out{advice}$"):
        name_engine(asked, obstacle, packed=packed, on_gpu=True, int8=True)


def test_pefts_kinds_of_lora_are_all_known() -> None:
    variants = {f.name for f in dataclasses.fields(LoraConfig) if "is_lora_variant" in f.metadata}
    assert len(variants) > 5
    assert variants <= set(NOT_PLAIN)
    [init] = [f for f in dataclasses.fields(LoraConfig) if f.name == "init_lora_weights"]
    for value in init.metadata["lora_variants"]:
        assert why_not_merged({"init_lora_weights": value}), value


@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(
            RuntimeError("Failed to find C compiler. Please specify via CC environment variable"),
            "for this GPU (RuntimeError: Failed to find C compiler.",
            id="no-compiler",
        ),
        pytest.param(
            ValueError("\nPassManager::run failed\nerror: sm_75"),
            "(ValueError: PassManager::run failed)",
            id="an-older-gpu",
        ),
        pytest.param(AssertionError(), "(AssertionError: no word)", id="nothing-said"),
    ],
)
def test_kernels_that_do_not_compile_leave_the_completions_to_generate(
    error: Exception, told: str
) -> None:
    def broken(prompts: Any, samples: int, sampling: Any) -> Any:
        assert (prompts, samples, sampling.is_greedy) == ([[7]], 1, True)
        raise error

    engine: Any = broken
    obstacle = why_not_compiled(engine, 7)
    assert told in str(obstacle)
    assert name_engine("auto", obstacle, packed=False, on_gpu=True) == ("generate", obstacle)
    with pytest.raises(UserError, match=r"'graph' cannot .* or 'auto', or so an .*--engine"):
        name_engine("graph", obstacle, packed=False, on_gpu=True)


def test_an_engine_that_answers_is_kept_and_no_memory_is_another_matter() -> None:
    engine = choose_engine("graph", tiny_gemma(), Tokenizer(), [EOS]).engine
    assert why_not_compiled(engine, 7) is None

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        why_not_compiled(full, 7)  # type: ignore[arg-type]  # no engine at all


def scaled(module: Any, _inputs: Any, output: Any) -> Any:
    return output * 1.2


CHANGES: dict[str, Callable[[Any], Any]] = {
    "a-head-that-scales": lambda model: model.lm_head.register_forward_hook(scaled),
    "one-norm-elsewhere": lambda model: model.model.norm.register_forward_hook(scaled),
    "another-activation": lambda model: setattr(model.model.layers[0].mlp, "act_fn", nn.ReLU()),
    "other-scores": lambda model: setattr(model.model.layers[1].self_attn, "scaling", 0.3),
    "a-key-that-only-the-configuration-has": lambda model: setattr(
        model.config, "rms_norm_eps", 0.3
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_computes_something_else_is_generates(change: str) -> None:
    model = tiny("llama-with-biases")
    CHANGES[change](model)
    choice = choose_engine("auto", model, Tokenizer(), [EOS])
    assert choice.name == "generate"
    assert "logits are not LlamaForCausalLM's own" in choice.reason
    with pytest.raises(UserError, match="its logits are not"):
        choose_engine("graph", model, Tokenizer(), [EOS])


@pytest.mark.parametrize("family", FAMILIES)
def test_rounding_is_no_difference(family: str) -> None:
    model = with_lora(tiny(family)).bfloat16()
    assert choose_engine("auto", model, Tokenizer(), [EOS]).name == "graph"
