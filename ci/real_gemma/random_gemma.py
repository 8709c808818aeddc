"""A GGUF to measure with where no real one is at hand: gemma-3-270m's shape, random weights."""

# ruff: noqa: PLC0415  # torch and transformers only where a model is built

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from xmlgrpo_exporter.convert.converter import convert, find_converter
from xmlgrpo_exporter.convert.staging import stage

# gemma-3-270m's config.json
SHAPE = {
    "vocab_size": 262_144,
    "hidden_size": 640,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "intermediate_size": 2048,
    "query_pre_attn_scalar": 256,
    "sliding_window": 512,
    "max_position_embeddings": 2048,
}


def build_model(scratch: Path, texts: Sequence[str]) -> Path:
    """A random q8_0 GGUF of gemma-3-270m's shape, with a small tokenizer of Gemma's form.

    The rows of markup and of single bytes are zero, so that no reply ends early and none holds
    half a character, on which the high-level API loses count.

    Args:
        scratch: an empty folder.
        texts: what the tokenizer is trained on.
    """
    folder = scratch / "model"
    silent = _build_tokenizer(folder, texts)
    _build_weights(folder, silent)
    out = scratch / "random-270m-q8_0.gguf"
    tree = find_converter(Console(stderr=True))
    staged = stage(folder, scratch / "staged", prompts_have_bos=True)
    convert(tree, staged, out, "q8_0", "random")
    return out


def _build_tokenizer(folder: Path, texts: Sequence[str]) -> list[int]:
    """Write the tokenizer; returns the ids that must not be written."""
    from xmlgrpo_trainer.tiny.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(folder, texts, vocab_size=420)
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    is_byte, markup = re.compile(r"<0x[0-9A-F]{2}>").fullmatch, tokenizer.added_tokens_decoder
    return [i for i, piece in enumerate(pieces) if is_byte(piece) or i in markup]


def _build_weights(folder: Path, silent: list[int]) -> None:
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(**SHAPE, bos_token_id=2, eos_token_id=1, pad_token_id=0)
    model = Gemma3ForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        model.get_input_embeddings().weight[silent] = 0
    model.save_pretrained(folder)
