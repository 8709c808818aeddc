"""A Gemma 3 in a folder, asked on a CPU: read from its files, answered by our own engine.

It answers as transformers' `generate` would, seconds earlier: transformers' model classes and peft
take longer to import than a small model takes to answer.
"""

from pathlib import Path
from typing import Any

import torch

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.cpu.engine import stream
from xmlgrpo_rollout.cpu.model_files import FolderModel, read_folder
from xmlgrpo_rollout.engine import Sampling
from xmlgrpo_rollout.stop_tokens import stop_ids
from xmlgrpo_run.files import read_json
from xmlgrpo_trainer.ask.chat import (
    Completion,
    Messages,
    OnText,
    Settings,
    check_room,
    completion_of,
    whole_characters,
)
from xmlgrpo_trainer.ask.source import Source
from xmlgrpo_trainer.problems.prompts import encode_prompts

TOKENIZER = "GemmaTokenizer"


class FolderChat:
    """Answers with the weights of a folder.

    Args:
        folder: of the tokenizer.
        model: with the adapter, if there is one.

    Raises:
        UserError: the tokenizer's files are broken.
    """

    def __init__(self, folder: Path, model: FolderModel) -> None:
        # not AutoTokenizer, which imports transformers' model classes
        from transformers.models.gemma.tokenization_gemma import GemmaTokenizer

        try:
            self._tokenizer = GemmaTokenizer.from_pretrained(folder)
        except Exception as error:  # a broken file fails in many ways
            raise UserError(f"cannot read the tokenizer in {folder}: {error}") from error
        self._model = model
        self._stops = stop_ids(_configured_ends(folder), self._tokenizer)

    def __call__(self, messages: Messages, settings: Settings, on_text: OnText) -> Completion:
        """Answer a conversation."""
        [prompt] = encode_prompts(self._tokenizer, [messages])
        check_room(len(prompt), settings, self._model.context)
        sampling = Sampling(settings.max_new_tokens, settings.temperature)
        rope = self._model.rope(len(prompt) + settings.max_new_tokens)
        characters = whole_characters(self._tokenizer, on_text)
        torch.manual_seed(settings.seed)
        ids: list[int] = []
        for token in stream(self._model.weights, rope, prompt, self._stops, sampling):
            ids.append(token)
            characters.put([token])
        characters.end()
        return completion_of(self._tokenizer, ids, prompt, self._stops)


def folder_chat(source: Source) -> FolderChat | None:
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
    model = read_folder(folder, source.adapter, torch.float32)
    return None if model is None else FolderChat(folder, model)


def _configured_ends(folder: Path) -> Any:
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            return read_json(folder / name).get("eos_token_id")
    return None
