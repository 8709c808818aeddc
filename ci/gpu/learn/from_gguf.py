"""A transformers folder from Gemma 3 270M's GGUF file: each tensor as its quantised values say.

    python ci/gpu/learn/from_gguf.py FOLDER OUT     # of model.gguf, tokenizer.json and its config

transformers' own reading (`gguf_file=`) splits this file's tokenizer into letters.
"""

import argparse
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xmlgrpo_rewards.errors import UserError, run_command

GGUF, TOKENIZER = "model.gguf", ("tokenizer.json", "tokenizer_config.json")
STOP_IDS = [1, 106]  # <eos>, <end_of_turn>
LAYER = {  # llama.cpp's names -> transformers'
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
OTHERS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}


def main() -> int:
    """Convert."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder", type=Path)
    options.add_argument("out", type=Path)
    asked = options.parse_args()
    missing = [name for name in (GGUF, *TOKENIZER) if not (asked.folder / name).is_file()]
    if missing:
        raise UserError(f"expected {', '.join(missing)} in {str(asked.folder)!r}; put it there")
    from gguf import GGUFReader  # noqa: PLC0415 - not among the locks

    with ThreadPoolExecutor(8) as pool:
        weights = dict(pool.map(read, GGUFReader(asked.folder / GGUF).tensors))
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    save(weights, asked.out, asked.folder)
    return 0


def read(tensor: Any) -> tuple[str, torch.Tensor]:
    """One tensor under transformers' name, in float32; norms are stored less one there."""
    from gguf.quants import dequantize  # noqa: PLC0415 - as above

    values = torch.from_numpy(
        np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    )
    return named(tensor.name), values - 1 if "norm" in tensor.name else values


def named(name: str) -> str:
    """Transformers' name of one of llama.cpp's tensors."""
    if name in OTHERS:
        return OTHERS[name]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{LAYER[part]}.weight"


def save(weights: dict[str, torch.Tensor], out: Path, tokenizer: Path) -> None:
    """Write the folder in bfloat16, under its name only once it is whole."""
    from transformers import (  # noqa: PLC0415 - after --help
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        GenerationConfig,
    )

    config = Gemma3TextConfig(
        vocab_size=262_144,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        max_position_embeddings=32_768,
        sliding_window=512,
        query_pre_attn_scalar=256,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        bos_token_id=2,
        eos_token_id=STOP_IDS,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    model = Gemma3ForCausalLM(config)
    model.load_state_dict(weights, strict=True)
    model.generation_config = GenerationConfig(
        bos_token_id=2, eos_token_id=STOP_IDS, pad_token_id=0
    )
    partial = out.with_name(f".{out.name}.partial")
    model.to(torch.bfloat16).save_pretrained(partial)
    for name in TOKENIZER:
        shutil.copyfile(tokenizer / name, partial / name)
    partial.rename(out)


if __name__ == "__main__":
    run_command(main)
