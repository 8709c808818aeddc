"""A transformers model, bare or with an adapter, that is asked."""

import importlib.util
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.stops import cut_after_stop
from xmlgrpo_trainer.ask.source import Source
from xmlgrpo_trainer.ask.speaker import Messages, OnText, Said, Settings, check_room
from xmlgrpo_trainer.config import ModelConfig
from xmlgrpo_trainer.model import choose_placement, load_policy
from xmlgrpo_trainer.prompts import encode_prompts, stop_ids

HALF_CHARACTER = "\N{REPLACEMENT CHARACTER}"  # what bytes decode to that are not a character yet
BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")  # SentencePiece's byte fallback


class TransformersSpeaker:
    """Answers with transformers' `generate`.

    Raises:
        UserError: the model cannot be loaded, or the adapter does not fit it.
    """

    def __init__(self, source: Source) -> None:
        # without a GPU an adapter that was trained over 4-bit weights is asked over whole ones
        four_bit = (
            source.quantized
            and torch.cuda.is_available()
            and importlib.util.find_spec("bitsandbytes") is not None
        )
        config = ModelConfig(
            name=source.name, revision=source.revision, backend="plain", load_in_4bit=four_bit
        )
        placement = choose_placement(config)
        policy = load_policy(config, source.name, {}, placement, seed=0, max_tokens=0)
        self.tokenizer = policy.tokenizer
        self.model = policy.model if source.adapter is None else _adapted(policy.model, source)
        self.model.eval()

    def __call__(self, messages: Messages, settings: Settings, on_text: OnText) -> Said:
        """Answer a chat, handing on each piece of the reply; see `xmlgrpo_trainer.ask.speaker`."""
        [prompt] = encode_prompts(self.tokenizer, [messages])
        context = self.model.config.get_text_config().max_position_embeddings
        check_room(len(prompt), settings, context)
        stops = stop_ids(self.model, self.tokenizer)
        prompt_1_T = torch.tensor([prompt], device=self.model.device)
        torch.manual_seed(settings.seed)
        greedy = settings.temperature == 0
        with torch.no_grad():
            written_1_T = self.model.generate(
                input_ids=prompt_1_T,
                attention_mask=torch.ones_like(prompt_1_T),
                generation_config=GenerationConfig(
                    max_new_tokens=settings.max_new_tokens,
                    do_sample=not greedy,
                    # unused when greedy, but other values than these would be warned about
                    temperature=1.0 if greedy else settings.temperature,
                    top_k=50 if greedy else 0,
                    eos_token_id=stops,
                    pad_token_id=self.tokenizer.pad_token_id,
                ),
                streamer=_Streamer(WholeCharacters(self._decode, self._is_byte, on_text)),
            )
        ids = cut_after_stop(written_1_T[0, len(prompt) :].tolist(), stops)
        ended = bool(ids) and ids[-1] in stops
        return Said(self._decode(ids), len(ids), len(prompt), "stop" if ended else "length")

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _is_byte(self, token: int) -> bool:
        return BYTE_TOKEN.fullmatch(self.tokenizer.convert_ids_to_tokens(token) or "") is not None


def _adapted(model: Any, source: Source) -> Any:
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(source.adapter))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"the adapter {str(source.adapter)!r} does not fit the model {source.name!r}: {reason}"
        ) from None


class WholeCharacters:
    """Token ids -> text, piece by piece, never half a character and never taken back.

    A character of several bytes can be several tokens.  Until the last of them has come the
    tokenizer decodes a replacement character, which is held back.  With byte fallback one wrong
    byte even turns the whole run of byte tokens into replacement characters, so such a run is held
    back until it has ended.

    Args:
        decode: token ids to text.
        is_byte: whether a token is one byte of byte fallback, such as `<0xE4>`.
        on_text: takes each piece.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        is_byte: Callable[[int], bool],
        on_text: OnText,
    ) -> None:
        self._decode = decode
        self._is_byte = is_byte
        self._on_text = on_text
        self._ids: list[int] = []
        self._told = 0  # characters of the decoded ids that have been handed on

    def put(self, ids: Sequence[int]) -> None:
        """Take more tokens and hand on what is certain."""
        self._ids += ids
        if self._is_byte(self._ids[-1]):
            return
        text = self._decode(self._ids)
        whole = text.rstrip(HALF_CHARACTER)
        self._tell(whole)
        if whole == text and text.endswith("\n"):  # a new line needs nothing of what was before
            self._ids, self._told = [], 0

    def end(self) -> None:
        """Hand on what is left, half characters too: they were what the model wrote."""
        self._tell(self._decode(self._ids))

    def _tell(self, text: str) -> None:
        if len(text) > self._told:
            self._on_text(text[self._told :])
            self._told = len(text)


class _Streamer:
    """The two calls that transformers' `generate` makes of a streamer; the prompt comes first."""

    def __init__(self, characters: WholeCharacters) -> None:
        self._characters = characters
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self._prompt_seen:
            self._characters.put(value.flatten().tolist())
        self._prompt_seen = True

    def end(self) -> None:
        self._characters.end()
