"""Tokens -> text on the screen, while a reply is written."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from xmlgrpo_trainer.ask.speaker import OnText

HALF_CHARACTER = "\N{REPLACEMENT CHARACTER}"  # what bytes decode to that are not a character yet
BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")  # SentencePiece's byte fallback


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


def decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of a reply, without special tokens."""
    return str(tokenizer.decode(ids, skip_special_tokens=True))


def told_in_characters(tokenizer: Any, on_text: OnText) -> WholeCharacters:
    """`WholeCharacters` of a transformers tokenizer."""

    def is_byte(token: int) -> bool:
        return BYTE_TOKEN.fullmatch(tokenizer.convert_ids_to_tokens(token) or "") is not None

    return WholeCharacters(lambda ids: decoded(tokenizer, ids), is_byte, on_text)
