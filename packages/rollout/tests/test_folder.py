"""Weights read from files are those read from the modules, and what does not fit is told."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from small_models import END_OF_TURN, EOS, FAMILIES, PAD, tiny, tiny_gemma, with_lora
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.cpu.engine import StaticEngine, stream
from xmlgrpo_rollout.cpu.model_files import FolderModel, read_folder
from xmlgrpo_rollout.engine import Sampling
from xmlgrpo_rollout.weights import DecoderWeights, read_rope, read_weights

LINEAR_ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
}
ADAPTERS: dict[str, dict[str, Any]] = {
    "all": {"target_modules": "all-linear", "r": 4, "lora_alpha": 8},
    "some": {"target_modules": ["q_proj", "down_proj"], "r": 2, "lora_alpha": 3},
    "rslora": {"target_modules": ["v_proj"], "r": 4, "lora_alpha": 4, "use_rslora": True},
}


def saved(folder: Path, **overrides: Any) -> Path:
    tiny_gemma(**overrides).save_pretrained(folder / "base")
    return folder / "base"


def adapted(base: Path, folder: Path, **settings: Any) -> Path:
    from transformers import Gemma3ForCausalLM

    model = Gemma3ForCausalLM.from_pretrained(base)
    torch.manual_seed(7)
    config = LoraConfig(**{"init_lora_weights": False, **settings})
    get_peft_model(model, config).save_pretrained(folder)
    return folder


def loaded(base: Path, adapter: Path | None) -> Any:
    from transformers import Gemma3ForCausalLM

    model = Gemma3ForCausalLM.from_pretrained(base)
    return model if adapter is None else PeftModel.from_pretrained(model, adapter)


def read(base: Path, adapter: Path | None) -> FolderModel:
    found = read_folder(base, adapter, torch.float32)
    assert found is not None
    return found


def assert_same(found: DecoderWeights, expected: DecoderWeights) -> None:
    one, other = dataclasses.asdict(found), dataclasses.asdict(expected)
    assert one.pop("recipe") == other.pop("recipe")
    for layer, like in zip(one.pop("layers"), other.pop("layers"), strict=True):
        for name in ("kind", "table"):
            assert layer.pop(name) == like.pop(name)
        torch.testing.assert_close(layer, like, rtol=0, atol=0)
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("adapter", [None, *ADAPTERS])
@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({}, id="as-it-is"),
        pytest.param({"rope_parameters": LINEAR_ROPE}, id="linear-rope"),
        pytest.param({"tie_word_embeddings": False}, id="own-head"),
    ],
)
def test_files_hold_what_the_modules_hold(
    tmp_path: Path, adapter: str | None, overrides: dict[str, Any]
) -> None:
    base = saved(tmp_path, **overrides)
    folder = adapter and adapted(base, tmp_path / "adapter", **ADAPTERS[adapter])
    model = loaded(base, folder or None)
    found = read(base, folder or None)
    with torch.no_grad():
        assert_same(found.weights, read_weights(model))
    assert found.context == 256
    for kind, turns in read_rope(model, 200).items():
        for one, other in zip(found.rope(200)[kind], turns, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_files_of_every_family_hold_what_the_modules_hold(tmp_path: Path, family: str) -> None:
    base, folder = tmp_path / "base", tmp_path / "adapter"
    tiny(family).save_pretrained(base)
    tuned = with_lora(tiny(family))
    tuned.save_pretrained(folder)
    found = read(base, folder)
    with torch.no_grad():
        assert_same(found.weights, read_weights(tuned))
    for table, turns in read_rope(tuned, 200).items():
        for one, other in zip(found.rope(200)[table], turns, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_model_in_shards_is_read_whole(tmp_path: Path) -> None:
    tiny_gemma().save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    with torch.no_grad():
        assert_same(read(tmp_path, None).weights, read_weights(loaded(tmp_path, None)))


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_what_is_streamed_is_what_the_engine_writes(tmp_path: Path, temperature: float) -> None:
    base = saved(tmp_path)
    adapter = adapted(base, tmp_path / "adapter", **ADAPTERS["all"])
    prompt = [2, 9, 11, 30, 31, 32, 33, 34, 35, 36, 37]
    sampling = Sampling(max_new_tokens=40, temperature=temperature)
    stops = [EOS, END_OF_TURN]
    found = read(base, adapter)
    torch.manual_seed(3)
    streamed = list(stream(found.weights, found.rope(60), prompt, stops, sampling))
    engine = StaticEngine(loaded(base, adapter), stops, PAD)
    torch.manual_seed(3)
    [completion] = engine([prompt], 1, sampling)
    assert streamed == completion.tokens


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"model_type": "llama"}, id="another-model"),
        pytest.param({"architectures": ["Gemma3ForConditionalGeneration"]}, id="vision"),
        pytest.param({"final_logit_softcapping": 30.0}, id="soft-capping"),
        pytest.param({"quantization_config": {"bits": 4}}, id="quantized"),
        pytest.param({"layer_types": None}, id="written-by-an-older-transformers"),
        pytest.param({"rope_parameters": {"rope_theta": 1.0}}, id="another-rope"),
    ],
)
def test_a_model_of_another_kind_is_left_to_transformers(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    base = saved(tmp_path)
    edit(base / "config.json", **change)
    assert read_folder(base, None, torch.float32) is None


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"target_modules": ["q_proj"], "use_dora": True}, id="dora"),
        pytest.param({"target_modules": ".*q_proj"}, id="a-pattern"),
        pytest.param({"target_modules": ["q_proj"], "rank_pattern": {"q_proj": 3}}, id="ranks"),
        pytest.param({"target_modules": ["q_proj"], "layers_to_transform": [0]}, id="layers"),
    ],
)
def test_an_adapter_of_another_kind_is_left_to_peft(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    base = saved(tmp_path)
    adapter = adapted(base, tmp_path / "adapter", **settings)
    assert read_folder(base, adapter, torch.float32) is None


def without(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for key in [key for key in tensors if name in key]:
            del tensors[key]

    return change


def shorter(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        [key] = [key for key in tensors if name in key]
        tensors[key] = tensors[key][:-1].contiguous()

    return change


def extra(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight"] = torch.zeros(2, 2)


@pytest.mark.parametrize(
    ("which", "change", "told"),
    [
        pytest.param("base", without("layers.1.mlp"), "layers.1.mlp.gate_proj.weight is missing"),
        pytest.param("base", without("embed"), "model.embed_tokens.weight is missing"),
        pytest.param("base", shorter("embed"), r"has the shape \[60, 32\], expected \[61, 32\]"),
        pytest.param("adapter", without("layers.2"), "layers.2.self_attn.q_proj.lora_A"),
        pytest.param("adapter", without("lora_B"), "lora_B.weight is missing"),
        pytest.param("adapter", shorter("layers.0.self_attn.q_proj.lora_A"), r"shape \[3, 32\]"),
        pytest.param("adapter", extra, "layers.9.self_attn.q_proj.lora_A.weight is not expected"),
    ],
)
def test_weights_that_do_not_fit_are_told(
    tmp_path: Path, which: str, change: Callable[[dict[str, torch.Tensor]], None], told: str
) -> None:
    base = saved(tmp_path)
    adapter = adapted(base, tmp_path / "adapter", **ADAPTERS["all"])
    path = {"base": base / "model.safetensors", "adapter": adapter / "adapter_model.safetensors"}
    tensors = load_file(path[which])
    change(tensors)
    save_file(tensors, path[which])
    with pytest.raises(UserError, match=told):
        read_folder(base, adapter, torch.float32)


def test_an_adapter_of_another_model_is_told(tmp_path: Path) -> None:
    other = saved(tmp_path / "other", hidden_size=64)
    adapter = adapted(other, tmp_path / "adapter", **ADAPTERS["all"])
    with pytest.raises(UserError, match="belongs to another model"):
        read_folder(saved(tmp_path), adapter, torch.float32)
