"""The tiny model: `Gemma3ForCausalLM` as transformers has it, in a size that a CPU can train."""

from typing import Any

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerBase

from xmlgrpo_trainer.tiny.settings import TinySettings
from xmlgrpo_trainer.tiny.tokenizer import TURN_END


def make_model(
    settings: TinySettings, tokenizer: PreTrainedTokenizerBase, seed: int
) -> Gemma3ForCausalLM:
    """A fresh float32 model for this tokenizer; torch's global generator is left as it was.

    The weights start with standard deviation hidden_size**-0.5 in place of 0.02, which suits
    models a hundred times wider and made this one learn far more slowly.
    """
    stop_ids = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(TURN_END)]
    config = text_config(
        settings,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=stop_ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Gemma3ForCausalLM(config)
    model.generation_config.eos_token_id = stop_ids
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    return model


def text_config(settings: TinySettings, **of_tokenizer: Any) -> Gemma3TextConfig:
    """The configuration of the tiny model.

    Args:
        settings: of the model.
        of_tokenizer: its size and special tokens; without them, those that the settings ask for.
    """
    return Gemma3TextConfig(
        **{"vocab_size": settings.vocab_size, **of_tokenizer},
        hidden_size=settings.hidden_size,
        intermediate_size=settings.mlp_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        head_dim=settings.head_dim,
        query_pre_attn_scalar=settings.head_dim,
        max_position_embeddings=settings.max_positions,
        sliding_window=settings.sliding_window,
        initializer_range=settings.hidden_size**-0.5,
        dtype="float32",
    )
