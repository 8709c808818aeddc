"""A model that is asked and answers piece by piece: what all kinds of it have in common.

All get the tokens that training used: the task's chat, the model's own template, one BOS.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.prompt import Messages
from xmlgrpo_trainer.problems.prompts import encode_prompts

HALF_CHARACTER = "\N{REPLACEMENT CHARACTER}"  # what bytes decode to that are not a character yet
BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")  # SentencePiece's byte fallback

OnText = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ReplySettings:
    """How a completion is drawn."""

    max_new_tokens: int
    temperature: float = 0.0  # 0 is greedy
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole completion."""

    text: str  # without the token that ended it
    tokens: int  # how many were written, the one that ended it included
    prompt_tokens: int  # how many were read
    finish: Literal["stop", "length"]  # the model's own end, or cut off


Chat = Callable[[Messages, ReplySettings, OnText], Completion]
"""Answers a conversation and hands on each piece of the completion as it is written."""


def check_room(prompt_tokens: int, settings: ReplySettings, context: int) -> None:
    """Refuse what the model could not read or answer.

    Raises:
        UserError: prompt and reply are longer than the context.
    """
    room = context - prompt_tokens
    if settings.max_new_tokens <= room:
        return
    advice = f"ask with --max-new-tokens {room}" if room > 0 else "shorten the question"
    raise UserError(
        f"the question is {prompt_tokens} tokens long with its instructions, and up to "
        f"{settings.max_new_tokens} are to be written, but the model's context is {context} "
        f"tokens; {advice}"
    )


class WholeCharacters:
    """Token ids -> text, piece by piece, never half a character and never taken back.

    A character of several bytes can be several tokens.  Until the last of them is there the
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
        self._shown = 0  # characters of the decoded ids that have been handed on

    def put(self, ids: Sequence[int]) -> None:
        """Take more tokens and hand on what is certain."""
        self._ids += ids
        if self._is_byte(self._ids[-1]):
            return
        text = self._decode(self._ids)
        whole = text.rstrip(HALF_CHARACTER)
        self._show(whole)
        if whole == text and text.endswith("\n"):  # a new line needs nothing of what was before
            self._ids, self._shown = [], 0

    def end(self) -> None:
        """Hand on what is left, half characters too: they were what the model wrote."""
        self._show(self._decode(self._ids))

    def _show(self, text: str) -> None:
        if len(text) > self._shown:
            self._on_text(text[self._shown :])
            self._shown = len(text)


OnTokens = Callable[[Sequence[int]], None]
# draws a completion of a prompt, handing on its tokens as they are drawn
Draw = Callable[[list[int], ReplySettings, OnTokens], list[int]]


@dataclass(frozen=True, slots=True)
class TokenizerChat:
    """A `Chat` of a model that has a tokenizer of transformers."""

    tokenizer: Any
    context: int  # the longest text, in tokens
    stops: Sequence[int]  # the tokens that end a completion
    draw: Draw

    def __call__(self, messages: Messages, settings: ReplySettings, on_text: OnText) -> Completion:
        """Answer a conversation."""
        import torch

        [prompt] = encode_prompts(self.tokenizer, [messages])
        check_room(len(prompt), settings, self.context)
        characters = WholeCharacters(self._text, self._is_byte, on_text)
        torch.manual_seed(settings.seed)
        ids = self.draw(prompt, settings, characters.put)
        characters.end()
        has_ended = bool(ids) and ids[-1] in self.stops
        finish: Literal["stop", "length"] = "stop" if has_ended else "length"
        return Completion(self._text(ids), len(ids), len(prompt), finish)

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _is_byte(self, token: int) -> bool:
        return BYTE_TOKEN.fullmatch(self.tokenizer.convert_ids_to_tokens(token) or "") is not None
