"""A Gemma 3 in a folder, asked on a CPU: read from its files, answered by our own engine.

It answers as transformers' `generate` would, seconds earlier: transformers' model classes and peft
take longer to import than a small model takes to answer.
"""

from pathlib import Path
from typing import Any

import torch

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.cpu.engine import stream
from xmlgrpo_rollout.cpu.model_files import read_folder
from xmlgrpo_rollout.engine import Sampling
from xmlgrpo_rollout.stop_tokens import stop_ids
from xmlgrpo_run.files import check_small_files, read_json
from xmlgrpo_trainer.ask.chat import OnTokens, ReplySettings, TokenizerChat
from xmlgrpo_trainer.ask.source import Source

TOKENIZER = "GemmaTokenizer"


def folder_chat(source: Source) -> TokenizerChat | None:
    """Read the model behind `source`; None for one that is left to transformers.

    Raises:
        UserError: a file is broken, or the adapter belongs to another model.
    """
    folder = Path(source.name)
    described = folder / "tokenizer_config.json"
    if source.quantized or not (described.is_file() and (folder / "tokenizer.json").is_file()):
        return None
    if read_json(described).get("tokenizer_class") != TOKENIZER:
        return None
    check_small_files(folder)
    model = read_folder(folder, source.adapter, torch.float32)
    if model is None:
        return None
    # not AutoTokenizer, which imports transformers' model classes
    from transformers.models.gemma.tokenization_gemma import GemmaTokenizer

    try:
        tokenizer = GemmaTokenizer.from_pretrained(folder)
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
