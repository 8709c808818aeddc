"""A reply on the screen while it is written: reasoning dim, answer bold, tags unseen.

While a reply is unfinished its format cannot be judged, so the text is shown as it is written, its
parts known by the tags so far; `xmlgrpo_rewards.reply.parse` judges the whole at the end.
"""

import re
from typing import Literal

from rich.console import Console
from rich.style import Style

from xmlgrpo_rewards.prose import printable, width
from xmlgrpo_rewards.reply import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    REASONING_CLOSE,
    REASONING_OPEN,
    TAGS,
    Reply,
)
from xmlgrpo_trainer.ask.chat import Completion

Part = Literal["reasoning", "answer", "other"]

PART_AFTER: dict[str, Part] = {
    REASONING_OPEN: "reasoning",
    REASONING_CLOSE: "other",
    ANSWER_OPEN: "answer",
    ANSWER_CLOSE: "other",
}
STYLES: dict[Part, Style] = {
    "reasoning": Style(dim=True),
    "answer": Style(bold=True),
    "other": Style(),
}
TAG = re.compile("|".join(map(re.escape, TAGS)))
LONGEST_TAG = max(map(len, TAGS))
# words, and what a line may end with: white space, and a wide character as in Chinese
WIDE = "\u2e80-\u9fff\uac00-\ud7a3\uff00-\uffef"
PIECES = re.compile(rf"\s|[{WIDE}]|[^\s{WIDE}]+")


class ReplyView:
    """Prints a reply piece by piece.

    White space at the edges of a part is not printed.  A piece that may be the beginning of a tag
    is held back until it is decided, and on a terminal an unfinished word until it is known to fit.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._held = ""
        self._part: Part = "other"
        self._spaces = ""
        self._shown: Part | None = None  # the part that the cursor is in
        self._fresh = True  # nothing of this part is printed yet
        self._word = ""  # the last one, which may go on
        self._used = 0  # columns of the line that the cursor is in

    def feed(self, text: str) -> None:
        """Take the next piece of the reply."""
        self._held += text
        while tag := TAG.search(self._held):
            self._write(self._held[: tag.start()])
            self._print("", ends_word=True)  # in the style of its own part
            self._held = self._held[tag.end() :]
            self._part, self._spaces, self._fresh = PART_AFTER[tag[0]], "", True
        keep = _unfinished_tag(self._held)
        self._write(self._held[: len(self._held) - keep])
        self._held = self._held[len(self._held) - keep :]

    def end(self) -> None:
        """The reply is over: what was held back is text."""
        self._write(self._held)
        self._held = ""
        if self._shown is not None:
            self._print("\n", ends_word=True)

    def _write(self, text: str) -> None:
        text = self._spaces + text
        if self._fresh:
            text = text.lstrip()
        bare = text.rstrip()
        self._spaces = text[len(bare) :]
        if not bare:
            return
        if self._fresh:
            before = "" if self._shown is None else "\n"
            self._print(before if self._part == "other" else f"{before * 2}{self._part}:\n")
            self._shown, self._fresh = self._part, False
        self._print(bare)

    def _print(self, text: str, *, ends_word: bool = False) -> None:
        text = printable(text)
        if self._console.is_terminal:
            text = self._fitted(text, ends_word=ends_word)
        self._console.print(
            text, style=STYLES[self._part], end="", markup=False, highlight=False, soft_wrap=True
        )

    def _fitted(self, text: str, *, ends_word: bool) -> str:
        """The text as lines that fit, less its last word, which may go on in the next text."""
        pieces = PIECES.findall(self._word + text)
        self._word = "" if ends_word or not pieces or pieces[-1].isspace() else pieces.pop()
        fitted = ""
        for piece in pieces:
            room = self._console.width - self._used
            too_wide = bool(self._used) and piece != "\n" and width(piece) > room
            if too_wide:
                fitted, self._used = fitted + "\n", 0
            if not (too_wide and piece == " "):
                fitted += piece
                self._used = 0 if piece == "\n" else self._used + width(piece)
        return fitted


def remarks(completion: Completion, reply: Reply) -> list[str]:
    """What the reader should know of a reply that is not as it was asked for."""
    found = []
    if completion.finish == "length":
        found.append(
            f"the reply was cut off after {completion.tokens} tokens; --max-new-tokens allows more"
        )
    if not completion.text.strip():
        found.append("the reply is empty")
    elif not reply.strict:
        lacking = "the white space differs" if reply.soft else "tags are missing or misplaced"
        found.append(f"the reply is not in the format that was asked for: {lacking}")
    return found


def _unfinished_tag(text: str) -> int:
    """How many characters at the end may be the beginning of a tag."""
    lengths = range(min(len(text), LONGEST_TAG - 1), 0, -1)
    begins = (n for n in lengths if any(tag.startswith(text[-n:]) for tag in TAGS))
    return next(begins, 0)
