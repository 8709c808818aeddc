"""Small random models of all families, for tests that need no tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
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


# What the other families' configurations can say, each with the shape of a real one: heads that do
# not make up the width (Qwen3), three or seven to a key head (SmolLM2, Qwen2.5), one table for all
FAMILIES: dict[str, dict[str, Any]] = {
    "llama-3": {
        "model_type": "llama",
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "llama-with-biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "smollm-2": {"model_type": "llama", "hidden_size": 48, "num_attention_heads": 3},
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "mistral-with-a-window": {"model_type": "mistral", "sliding_window": WINDOW},
    "qwen-2.5": {"model_type": "qwen2", "hidden_size": 112, "num_attention_heads": 7},
    "qwen-2-with-windows": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 1,
    },
    "qwen-3": {"model_type": "qwen3", "head_dim": 24},
    "qwen-3-with-biases-and-yarn": {
        "model_type": "qwen3",
        "head_dim": 16,
        "attention_bias": True,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10_000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "smollm-3": {"model_type": "smollm3", "num_hidden_layers": 4},
    "gemma-1": {"model_type": "gemma", "head_dim": 24, "tie_word_embeddings": True},
    "granite-3": {
        "model_type": "granite",
        "embedding_multiplier": 3.0,
        "attention_multiplier": 0.1,
        "residual_multiplier": 0.4,
        "logits_scaling": 2.0,
    },
    "ministral": {
        "model_type": "ministral",
        "head_dim": 16,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "olmo-2": {"model_type": "olmo2", "num_key_value_heads": 2},
    "olmo-3": {"model_type": "olmo3", "num_hidden_layers": 4, "sliding_window": WINDOW},
    "exaone-4": {"model_type": "exaone4", "num_hidden_layers": 4, "sliding_window": WINDOW},
    "phi-3": {"model_type": "phi3", "sliding_window": WINDOW},
    "phi-4-without-long-texts": {
        "model_type": "phi3",
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 0.75,
        },
    },
    "seed-oss": {"model_type": "seed_oss", "head_dim": 24, "attention_bias": True},
}


# what the engine leaves to transformers
OTHERS: dict[str, dict[str, Any]] = {
    "gemma-2": {"model_type": "gemma2", "head_dim": 16},
    "cohere": {"model_type": "cohere"},
}


def tiny(family: str, seed: int = 0, **overrides: Any) -> Any:
    """A random float32 model of a family, with norms and biases that are not at their start."""
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "tie_word_embeddings": False,
        "pad_token_id": PAD,
        "eos_token_id": [EOS, END_OF_TURN],
        "bos_token_id": 2,
        **(FAMILIES | OTHERS)[family],
        **overrides,
    }
    return random_model(settings, seed)


def random_model(settings: Mapping[str, Any], seed: int = 0, spread: float = 0.2) -> Any:
    """A model of a configuration, whose norms and biases are off their start by `spread`."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))
    with torch.no_grad():  # at their start, a forgotten one would not show
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter), alpha=spread)
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
