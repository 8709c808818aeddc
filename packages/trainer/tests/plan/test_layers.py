"""The plan's count of what a layer keeps, held to what autograd saves of a real Gemma 3."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.autograd.graph import saved_tensors_hooks
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from xmlgrpo_trainer.config.defaults import LORA_DEFAULTS
from xmlgrpo_trainer.grpo.fast_step.lora import fuse_lora
from xmlgrpo_trainer.grpo.fast_step.padding import align_left
from xmlgrpo_trainer.plan.memory import estimate, layer_bytes, mask_bytes, masked_layers
from xmlgrpo_trainer.plan.shapes import GEMMA_3, ModelShape
from xmlgrpo_trainer.plan.workload import Load

MEASURED = Path(__file__).resolve().parents[4] / "docs" / "measured"
ROWS, PADDING, RANK = 2, 5, 8
GPU = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _transformers_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Liger puts its classes into transformers' module, whatever instance it is asked to change."""
    from transformers.models.gemma3 import modeling_gemma3

    for name, value in dict(vars(modeling_gemma3)).items():
        if not name.startswith("__"):
            monkeypatch.setattr(modeling_gemma3, name, value)


def small(**changes: Any) -> ModelShape:
    sizes = {"hidden": 96, "heads": 4, "kv_heads": 2, "head_dim": 32, "mlp": 160} | changes
    return ModelShape(name="small", vocabulary=64, layers=1, window=64, **sizes)


def asked(shape: ModelShape, tokens: int, **changes: Any) -> Load:
    fields: dict[str, Any] = {
        "shape": shape,
        "number_bytes": 2,
        "quantized": False,
        "lora_weights": shape.lora_weights(RANK, None),
        "optimizer_bytes": 8,
        "engine": "generate",
        "rows": ROWS,
        "group": ROWS,
        "held_out_rows": 1,
        "micro_batch": ROWS,
        "prompt_tokens": tokens // 2,
        "completion_tokens": tokens - tokens // 2,
        "held_out_tokens": 1,
    }
    return Load(**(fields | changes))


def adapted(
    shape: ModelShape, layers: int, *, fused: bool, liger: bool, aligned: bool, device: str
) -> Any:
    """A random model as trl has it in training: bfloat16, a float32 adapter."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.mlp,
        sliding_window=shape.window,
    )
    model = Gemma3ForCausalLM(config).to(torch.bfloat16)
    lora = LoraConfig(r=RANK, target_modules=LORA_DEFAULTS["target_modules"])
    adapted_model = get_peft_model(model, lora, autocast_adapter_dtype=True)
    if liger:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model)
    if fused:
        assert fuse_lora(adapted_model) == layers * len(LORA_DEFAULTS["target_modules"])
    if aligned:
        assert align_left(adapted_model)
    return adapted_model.to(device)


def saved_bytes(model: Any, tokens: int, padding: int, device: str) -> int:
    """Of all storages that a forward pass saves, parameters apart."""
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    found: dict[int, torch.Tensor] = {}

    def kept(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            found[place] = tensor  # held: a freed storage's address would come again
        return tensor

    ids = torch.randint(3, 60, (ROWS, tokens), device=device)
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    decoder = model.base_model.model.model
    with saved_tensors_hooks(kept, lambda tensor: tensor), torch.autocast(device, torch.bfloat16):
        decoder(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


def check_layer(
    changes: dict[str, int],
    texts: str,
    lengths: tuple[int, int],
    device: str,
    *,
    fused: bool,
    liger: bool,
) -> None:
    """Hold the growth of what one layer more saves to the count."""
    shape, (short, long) = small(**changes), lengths
    aligned, padding = texts == "aligned", 0 if texts == "even" else PADDING
    # one layer more, and its growth with the length: what does not grow is no activation
    grown: dict[int, int] = {}
    for tokens in (short, long):
        few, more = (
            saved_bytes(
                adapted(shape, layers, fused=fused, liger=liger, aligned=aligned, device=device),
                tokens,
                padding,
                device,
            )
            for layers in (2, 3)
        )
        grown[tokens] = more - few

    def counted(tokens: int) -> float:
        load = asked(
            shape,
            tokens,
            fused_lora=fused,
            liger=liger,
            ragged=padding > 0,
            aligned=aligned,
            windowed=aligned and device == "cuda",
        )
        masked = masked_layers(load)
        mask = mask_bytes(load, ROWS) if masked else 0
        return ROWS * tokens * layer_bytes(load, masked=masked > 0) + mask

    found, expected = grown[long] - grown[short], counted(long) - counted(short)
    # on a GPU attention rounds its sums up to 32 a row
    assert found == pytest.approx(expected, rel=0.02 if device == "cuda" else 1e-9)


@pytest.mark.parametrize(
    ("texts", "lengths", "fused"),
    [
        pytest.param("padded", (32, 48), True, id="padded"),
        pytest.param("padded", (32, 48), False, id="pefts-projection"),
        pytest.param("aligned", (32, 48), True, id="aligned"),
        pytest.param("aligned", (80, 96), True, id="aligned-beyond-the-window"),
    ],
)
def test_a_layer_keeps_what_is_counted(
    texts: str, lengths: tuple[int, int], *, fused: bool
) -> None:
    check_layer({}, texts, lengths, "cpu", fused=fused, liger=False)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="grouped-heads"),
        pytest.param({"hidden": 128}, id="wide"),
        pytest.param({"mlp": 224}, id="wide-mlp"),
        pytest.param({"heads": 8}, id="many-heads"),
        pytest.param({"kv_heads": 1}, id="one-key-head"),
        pytest.param({"kv_heads": 4}, id="no-groups"),
    ],
)
@pytest.mark.parametrize(
    "lengths", [(32, 48), (80, 96)], ids=["inside-the-window", "beyond-the-window"]
)
@pytest.mark.parametrize("texts", ["even", "padded", "aligned"])
@pytest.mark.parametrize("fused", [True, False], ids=["ours", "peft"])
@pytest.mark.parametrize(
    ("liger", "device"),
    [
        pytest.param(False, "cpu", id="transformers", marks=pytest.mark.slow),
        pytest.param(True, "cuda", id="liger", marks=GPU),
    ],
)
def test_every_shape_keeps_what_is_counted(
    changes: dict[str, int],
    texts: str,
    lengths: tuple[int, int],
    device: str,
    *,
    fused: bool,
    liger: bool,
) -> None:
    if device == "cuda" and not (torch.cuda.is_available() and find_spec("liger_kernel")):
        pytest.skip("needs a GPU and liger-kernel")
    check_layer(changes, texts, lengths, device, fused=fused, liger=liger)


@pytest.mark.parametrize(
    ("variant", "engine"), [("generate", "generate"), ("graph", "graph")], ids=["generate", "graph"]
)
def test_the_count_meets_the_whole_step_that_was_measured(variant: str, engine: str) -> None:
    # 198: the longest prompt of the run's first step, whose texts were not
    # aligned then
    told = json.loads((MEASURED / "speed-h200.json").read_text(encoding="utf-8"))
    measured_gib = told["variants"][variant]["memory"]["allocated_gib"]
    rows = told["prompts"] * told["completions_each"]
    shape = GEMMA_3["1b"]
    load = asked(
        shape,
        0,
        lora_weights=shape.lora_weights(16, None),
        engine=engine,
        rows=rows,
        group=told["completions_each"],
        held_out_rows=4,
        held_out_tokens=8,
        micro_batch=rows,
        prompt_tokens=198,
        completion_tokens=told["tokens"],
        checkpointing=False,
        liger=True,
        ours=True,
        fused_lora=True,
        second_pass=engine == "graph",
    )
    assert estimate(load).allocated == pytest.approx(measured_gib, rel=0.01)
