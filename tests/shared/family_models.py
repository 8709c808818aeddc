"""Tiny random models of other families, each with a tokenizer of its family's kind.

Real configuration classes, real ways to cut text, the names of the real special tokens, templates
that open turns as the real ones do; the vocabulary is learnt from this repository's own pages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from small_models import random_model
from xmlgrpo_exporter.convert.pre_tokenizer import SPLITS

ROOT = Path(__file__).resolve().parents[2]
PIECES = 900
LLAMA_TURNS = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A family: how its tokenizer and its model differ from the others'."""

    cuts: str  # in llama.cpp's words
    template: str
    ends: tuple[str, ...]  # what ends a reply; the last is the tokenizer's EOS
    config: Mapping[str, Any]
    bos: str | None = None
    others: tuple[str, ...] = ("<|im_start|>",)  # more special tokens


KINDS = {
    "llama-3": Kind(
        "llama-bpe",
        LLAMA_TURNS,
        ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        {
            "model_type": "llama",
            "hidden_size": 128,
            "head_dim": 32,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "max_position_embeddings": 131_072,
            "rope_parameters": LLAMA_ROPE,
        },
        bos="<|begin_of_text|>",
        others=("<|start_header_id|>", "<|end_header_id|>"),
    ),
    "smollm-2": Kind(
        "smollm",
        CHATML,
        ("<|endoftext|>", "<|im_end|>"),
        {
            "model_type": "llama",
            "hidden_size": 96,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
        },
        bos="<|im_start|>",
        others=(),
    ),
    "qwen-2.5": Kind(
        "qwen2",
        CHATML,
        ("<|endoftext|>", "<|im_end|>"),
        {
            "model_type": "qwen2",
            "hidden_size": 112,
            "num_attention_heads": 7,
            "num_key_value_heads": 1,
        },
    ),
    "qwen-3": Kind(
        "qwen2",
        CHATML,
        ("<|endoftext|>", "<|im_end|>"),
        {
            "model_type": "qwen3",
            "hidden_size": 64,
            "head_dim": 32,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
    ),
}


def write_model(kind: Kind, folder: Path) -> None:
    """Make a model and its tokenizer in a folder."""
    tokenizer = _tokenizer(kind)
    ends = tokenizer.convert_tokens_to_ids(list(kind.ends))
    settings = {
        "vocab_size": len(tokenizer),
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "max_position_embeddings": 4096,
        "initializer_range": 0.04,  # of wilder ones 8 bits, or another processor, tip near ties
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": ends,
        "pad_token_id": tokenizer.pad_token_id,
        **kind.config,
    }
    model = random_model(settings, spread=0.1)
    model.generation_config = GenerationConfig(eos_token_id=ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer(kind: Kind) -> Any:
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind.cuts == "llama-bpe"))
    tokenizer.pre_tokenizer = _cuts(kind.cuts)
    tokenizer.decoder = decoders.ByteLevel()
    pages = [page.read_text(encoding="utf-8") for page in sorted(ROOT.glob("docs/*.md"))]
    learner = trainers.BpeTrainer(
        vocab_size=PIECES,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(pages, learner)
    special = dict.fromkeys([*kind.ends, *([kind.bos] if kind.bos else []), *kind.others])
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=kind.bos,
        eos_token=kind.ends[-1],
        pad_token=kind.ends[0],
        chat_template=kind.template,
        clean_up_tokenization_spaces=False,
    )


def _cuts(kind: str) -> pre_tokenizers.PreTokenizer:
    first = {name: Regex(words) for words, name in SPLITS.items()}
    if kind not in first:
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    split = pre_tokenizers.Split(first[kind], behavior="isolated")
    rest = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, rest])
