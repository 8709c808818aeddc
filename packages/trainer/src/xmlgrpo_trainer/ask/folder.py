"""A Gemma 3 in a folder, asked on a CPU: read from its files, answered by our own engine.

What transformers' `generate` would say, seconds earlier: transformers' model classes and peft take
longer to import than a small model takes to answer.
"""

from pathlib import Path

import torch

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.cpu.engine import stream
from xmlgrpo_rollout.cpu.model_files import FolderModel, read_folder
from xmlgrpo_rollout.sampling import Sampling
from xmlgrpo_rollout.stop_tokens import stop_ids
from xmlgrpo_run.files import read_json
from xmlgrpo_trainer.ask.characters import decoded, told_in_characters
from xmlgrpo_trainer.ask.source import Source
from xmlgrpo_trainer.ask.speaker import Messages, OnText, Said, Settings, Speaker, check_room
from xmlgrpo_trainer.problems.prompts import encode_prompts

TOKENIZER = "GemmaTokenizer"


def folder_speaker(source: Source) -> Speaker | None:
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
    return None if model is None else FolderSpeaker(folder, model)


class FolderSpeaker:
    """Answers with the weights of a folder.

    Args:
        folder: of the tokenizer.
        model: with the adapter, if there is one.
    """

    def __init__(self, folder: Path, model: FolderModel) -> None:
        # not AutoTokenizer, which imports transformers' model classes
        from transformers.models.gemma.tokenization_gemma import GemmaTokenizer

        try:
            self.tokenizer = GemmaTokenizer.from_pretrained(folder)
        except Exception as error:  # a broken file fails in many ways
            raise UserError(f"cannot read the tokenizer in {folder}: {error}") from error
        self.model = model
        self._stops = stop_ids(_configured_ends(folder), self.tokenizer)

    def __call__(self, messages: Messages, settings: Settings, on_text: OnText) -> Said:
        """Answer a chat, handing on each piece of the reply; see `xmlgrpo_trainer.ask.speaker`."""
        [prompt] = encode_prompts(self.tokenizer, [messages])
        check_room(len(prompt), settings, self.model.context)
        sampling = Sampling(settings.max_new_tokens, settings.temperature)
        rope = self.model.rope(len(prompt) + settings.max_new_tokens)
        characters = told_in_characters(self.tokenizer, on_text)
        torch.manual_seed(settings.seed)
        ids: list[int] = []
        for token in stream(self.model.weights, rope, prompt, self._stops, sampling):
            ids.append(token)
            characters.put([token])
        characters.end()
        ended = bool(ids) and ids[-1] in self._stops
        text = decoded(self.tokenizer, ids)
        return Said(text, len(ids), len(prompt), "stop" if ended else "length")


def _configured_ends(folder: Path) -> object:
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            return read_json(folder / name).get("eos_token_id")
    return None
