"""A GGUF to measure with where no real one is at hand: gemma-3-270m's shape, random weights."""

# ruff: noqa: PLC0415  # torch and transformers only where a model is built

import json
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


def build_model(scratch: Path, texts: Sequence[str], outtype: str) -> Path:
    """A random GGUF of gemma-3-270m's shape, with a small tokenizer of Gemma's form.

    The rows of markup and of single bytes are zero, so that no reply ends early and none holds
    half a character, on which the high-level API loses count.

    Args:
        scratch: an empty folder.
        texts: what the tokenizer is trained on.
        outtype: a type that llama.cpp's converter writes: q8_0, f16, f32.
    """
    folder = scratch / "model"
    folder.mkdir()
    silent = _build_tokenizer(folder, texts)
    _build_weights(folder, silent)
    out = scratch / f"random-270m-{outtype}.gguf"
    tree = find_converter(Console(stderr=True))
    staged = stage(folder, scratch / "staged", prompts_have_bos=True)
    convert(tree, staged, out, outtype, "random")
    return out


def _build_tokenizer(folder: Path, texts: Sequence[str]) -> list[int]:
    """Write the tokenizer; returns the ids that must not be written."""
    import sentencepiece
    from transformers import GemmaTokenizer

    markup = ["<mask>", "<start_of_turn>", "<end_of_turn>"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=420,
        model_type="bpe",
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        user_defined_symbols=markup,
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    tokenizer = GemmaTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    for token in stored["added_tokens"]:
        token["special"] = token["special"] or token["content"] in markup
    path.write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    count = processor.vocab_size()
    special = set(tokenizer.convert_tokens_to_ids(["<pad>", "<eos>", "<bos>", "<unk>", *markup]))
    return [i for i in range(count) if processor.is_byte(i) or i in special]


def _build_weights(folder: Path, silent: list[int]) -> None:
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(**SHAPE, bos_token_id=2, eos_token_id=1, pad_token_id=0)
    model = Gemma3ForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        model.get_input_embeddings().weight[silent] = 0
    model.save_pretrained(folder)
