"""The tensors of Gemma 3's GGUF as transformers has them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GenerationConfig

from ci.real_gemma.random_gemma import SHAPE

Weights = dict[str, Tensor]
STOP_IDS = [1, 106]  # <eos>, <end_of_turn>

# llama.cpp's names of a layer's tensors, and transformers'
NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
READ_HIDDEN = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
WRITE_HIDDEN = ("o_proj", "down_proj")
HEAD_NORMS = ("q_norm", "k_norm")


def convert(gguf: Path, folder: Path, gguf_py: Path) -> None:
    """Write configuration and weights, in bfloat16 as Google's are.

    Args:
        gguf: the file.
        folder: to write to.
        gguf_py: the folder of the package `gguf`, such as llama.cpp's own.
    """
    config = Gemma3TextConfig(
        **SHAPE | {"max_position_embeddings": 32_768},
        bos_token_id=2,
        eos_token_id=STOP_IDS,
        pad_token_id=0,
    )
    weights = {}
    with Progress() as progress:
        bar = progress.add_task("dequantizing", total=13 * config.num_hidden_layers + 2)
        for name, values in read_gguf(gguf, gguf_py):
            weights[name] = values.bfloat16()
            progress.advance(bar)
    weights = reorder_channels(weights, config)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    with torch.device("meta"):
        model = Gemma3ForCausalLM(config).bfloat16()
    model.load_state_dict(weights, strict=True, assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=2, eos_token_id=STOP_IDS, pad_token_id=0, do_sample=True, top_k=64, top_p=0.95
    )
    model.save_pretrained(folder)


def read_gguf(path: Path, gguf_py: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and float32 values of a file's tensors, one after the other.

    Args:
        path: the file.
        gguf_py: llama.cpp's own Python package, which comes with the exporter's converter.
    """
    sys.path.insert(0, str(gguf_py))
    from gguf import GGUFReader  # noqa: PLC0415  # only now is its folder known
    from gguf.quants import dequantize  # noqa: PLC0415  # likewise

    for tensor in GGUFReader(path).tensors:
        values = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), np.float32))
        # llama.cpp multiplies by a norm's weight, transformers by 1 more than its
        yield name_of(tensor.name), values - 1 if "norm" in tensor.name else values


def name_of(name: str) -> str:
    """The name that transformers has for a tensor of llama.cpp's."""
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, kind, _ = name.split(".")
    return f"model.layers.{layer}.{NAMES[kind]}.weight"


def reorder_channels(weights: Weights, config: Any, seed: int = 0) -> Weights:
    """The same model with its channels in another order.

    Dequantized values lie on the grids of the blocks that they were quantized in, and quantizing
    them again would cost nothing: an export of them looks better than any real one.  The order of
    channels is a convention, the same in every matrix that reads or writes them.  In another order
    every block holds values of many grids, as those of a 16-bit checkpoint do, while the model
    computes what it did (but for the order of its sums).

    Reordered are the hidden channels, the inner ones of each MLP, and those of each layer's values.
    Queries and keys stay: position is written into the order of theirs.

    Args:
        weights: all of the model's, by transformers' names.
        config: the model's, of transformers.
        seed: of the orders.
    """
    generator = torch.Generator().manual_seed(seed)

    def order(size: int) -> Tensor:
        return torch.randperm(size, generator=generator)

    hidden = order(config.hidden_size)
    inner = [order(config.intermediate_size) for _ in range(config.num_hidden_layers)]
    value = [order(config.head_dim) for _ in range(config.num_hidden_layers)]

    def reordered(name: str, weight: Tensor) -> Tensor:
        part = name.split(".")[-2]
        layer = int(name.split(".")[2]) if ".layers." in name else 0
        if part in READ_HIDDEN or part == "embed_tokens":
            weight = weight[:, hidden]
        elif part in WRITE_HIDDEN or (weight.ndim == 1 and part not in HEAD_NORMS):
            weight = weight[hidden]
        if part in ("gate_proj", "up_proj"):
            weight = weight[inner[layer]]
        elif part == "down_proj":
            weight = weight[:, inner[layer]]
        elif part == "v_proj":
            weight = weight.view(-1, config.head_dim, weight.shape[1])[:, value[layer]].flatten(
                0, 1
            )
        elif part == "o_proj":
            weight = weight.view(weight.shape[0], -1, config.head_dim)[:, :, value[layer]].flatten(
                1
            )
        return weight.contiguous()

    return {name: reordered(name, weight) for name, weight in weights.items()}
