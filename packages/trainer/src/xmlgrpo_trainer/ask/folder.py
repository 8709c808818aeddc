"""A model of a known family in a folder, asked on a CPU: read from its files, by our own engine.

It answers as transformers' `generate` would, seconds earlier: transformers' model classes and peft
take longer to import than a small model takes to answer.
"""

import importlib
from pathlib import Path
from typing import Any

import torch

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.cpu.engine import stream
from xmlgrpo_rollout.cpu.model_files import read_folder
from xmlgrpo_rollout.engine import Sampling
from xmlgrpo_rollout.recipe import FAMILIES
from xmlgrpo_rollout.stop_tokens import stop_ids
from xmlgrpo_run.files import check_small_files, read_json
from xmlgrpo_trainer.ask.chat import OnTokens, ReplySettings, TokenizerChat
from xmlgrpo_trainer.ask.source import Source

# Tokenizer classes of transformers, by their names in `tokenizer_config.json`: the module, and of
# which models; there AutoTokenizer takes the class that is named.
TOKENIZERS = {
    "GemmaTokenizer": ("models.gemma.tokenization_gemma", {"gemma", "gemma3_text"}),
    "GPT2Tokenizer": ("models.gpt2.tokenization_gpt2", {"llama"}),
    "Qwen2Tokenizer": ("models.qwen2.tokenization_qwen2", {"qwen2", "qwen3"}),
    "TokenizersBackend": ("tokenization_utils_tokenizers", {*FAMILIES} - {"qwen2"}),
}


def folder_chat(source: Source) -> TokenizerChat | None:
    """Read the model behind `source`; None for one that is left to transformers.

    Raises:
        UserError: a file is broken, or the adapter belongs to another model.
    """
    folder = Path(source.name)
    described = folder / "tokenizer_config.json"
    if source.quantized or not (described.is_file() and (folder / "tokenizer.json").is_file()):
        return None
    name = str(read_json(described).get("tokenizer_class"))
    module, kinds = TOKENIZERS.get(name, ("", set()))
    if read_json(folder / "config.json").get("model_type") not in kinds:
        return None
    if (folder / "tekken.json").exists():  # a tokenizer of Mistral's own
        return None
    check_small_files(folder)
    model = read_folder(folder, source.adapter, torch.float32)
    if model is None:
        return None
    # not AutoTokenizer, which imports transformers' model classes
    own_tokenizer = getattr(importlib.import_module(f"transformers.{module}"), name)
    try:
        tokenizer = own_tokenizer.from_pretrained(folder)
    except Exception as error:  # a broken file fails in many ways
        raise UserError(f"cannot read the tokenizer in {folder}: {error}") from error
    stops = stop_ids(_configured_ends(folder), tokenizer)

    def draw(prompt: list[int], settings: ReplySettings, on_tokens: OnTokens) -> list[int]:
        sampling = Sampling(settings.max_new_tokens, settings.temperature)
        rope = model.rope(len(prompt) + settings.max_new_tokens)
        ids: list[int] = []
        for token in stream(model.weights, rope, prompt, stops, sampling):
            ids.append(token)
            on_tokens([token])
        return ids

    return TokenizerChat(tokenizer, model.context, stops, draw)


def _configured_ends(folder: Path) -> Any:
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            return read_json(folder / name).get("eos_token_id")
    return None
