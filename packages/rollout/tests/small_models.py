"""Small random Gemma 3 models that stand for the real one in the tests of the engines."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
)

EOS, END_OF_TURN, PAD = 1, 6, 0
VOCABULARY = 61
WINDOW = 8


class Tokenizer:
    """What an engine asks of a tokenizer."""

    pad_token_id = PAD


def tiny_gemma(seed: int = 0, **overrides: Any) -> Gemma3ForCausalLM:
    """A random float32 Gemma 3 with sliding and full layers and a window of eight tokens."""
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "max_position_embeddings": 256,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "initializer_range": 0.3,
        "pad_token_id": PAD,
        "eos_token_id": [EOS, END_OF_TURN],
        "bos_token_id": 2,
    }
    torch.manual_seed(seed)
    model = Gemma3ForCausalLM(Gemma3TextConfig(**(settings | overrides)))
    with torch.no_grad():  # norms that differ from their start, or a forgotten one would not show
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(std=0.2)
    return model.eval()


TEXT_PROJECTIONS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"


def tiny_multimodal_gemma(seed: int = 0) -> Gemma3ForConditionalGeneration:
    """The same with a vision tower beside it, as Gemma 3 has from 4B up."""
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Gemma3Config(
        text_config=tiny_gemma().config.to_dict(),
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=VOCABULARY - 1,
    )
    torch.manual_seed(seed)
    return Gemma3ForConditionalGeneration(config).eval()


def with_lora(model: Any, **overrides: Any) -> Any:
    """The model with a LoRA adapter whose weights are not zero."""
    config = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    tuned = get_peft_model(model, LoraConfig(**(config | overrides)))
    disturb(tuned)
    return tuned


def disturb(tuned: Any, seed: int = 1) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)


def prompts_of(lengths: Sequence[int], seed: int = 2) -> list[list[int]]:
    torch.manual_seed(seed)
    return [torch.randint(7, VOCABULARY, (length,)).tolist() for length in lengths]
