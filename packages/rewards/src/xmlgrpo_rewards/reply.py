"""The reply format: what the model is asked to write, and how it is read back.

This module is the only place that spells the tags.  The prompt, the reward functions, the
lm-eval task, the export check and `ask` import it.  A change here changes what every past number
means: bump `FORMAT_VERSION` in the same commit, and say there what has changed.

A completion is read with `str.find`: a few passes per tag, linear in its length whatever it holds.
The usual regular expressions for the whole form are quadratic or worse on hostile completions.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from xmlgrpo_rewards.markup.page import MARKS, hides, shown
from xmlgrpo_rewards.markup.tex import printed

FORMAT_VERSION = 4
"""What the form and the grade of a number mean.  Numbers of another version do not compare:

2. `last_number` reads a number whole or not at all; reasoning without a letter or digit is empty.
3. It reads what markup and more words around a number make of it (`x/2` is no 2, `<b>18</b>` is
   18); reasoning of markup that renders as nothing is empty.
4. It reads no piece of `3 thousand 500`, `twenty-5`, `10h 30` or `5 and two thirds`; reasoning of
   modifier letters, of a terminal's escapes or of more unseen markup is empty.

More kinds of unseen markup and of pieces (`35 EE 24`, `|-7|`) have been known since; GSM8K's
solutions and 281,046 kept replies of models are read as before, so the number stayed.
"""

REASONING_OPEN, REASONING_CLOSE = "<reasoning>", "</reasoning>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
TAGS = (REASONING_OPEN, REASONING_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)
FENCE = "```"

SYSTEM = (
    "Reply in exactly this form:\n"
    f"{REASONING_OPEN}\n...\n{REASONING_CLOSE}\n{ANSWER_OPEN}\n...\n{ANSWER_CLOSE}"
)

# What a reader sees of a block decides whether it holds anything.  The search gives up after this
# many characters, so that a flood of unseen ones costs no time.
MAX_UNSEEN = 1024
# fillers of Hangul, blanks of hieroglyphs and a raised dot: letters by Unicode, and empty
_BLANK_LETTERS = "\u115f\u1160\u3164\uffa0\U00013441\U00013442\ua78f"
_WORD = re.compile(rf"[^\W_{_BLANK_LETTERS}]")  # a letter or a digit of any script
_BLANK_SIGNS = "\u2800\U0001d159"  # the Braille pattern without a dot, a note without a head
_MAY_HIDE = re.compile(rf"[{re.escape(MARKS)}\\%]")

Message = Mapping[str, Any]
Completion = str | Sequence[Message]


@dataclass(frozen=True, slots=True)
class Reply:
    """A completion, read back.

    Attributes:
        text: the whole completion.
        reasoning: what stands in the one `<reasoning>` block, stripped; None when there is not
            exactly one.
        answer: what stands in the one `<answer>` block, stripped.  None when there is not exactly
            one, since a reply with two answers has not decided; and None when a reasoning tag
            comes after `<answer>` (nested, reopened, reversed), since it has not finished.
        strict: the whole text is the form of `render`, newlines included; one newline may follow.
        soft: the four tags once each and in order, with only white space around and between the
            two blocks; a letter or a digit in the reasoning, something to see in the answer, both
            once HTML, Markdown and LaTeX are rendered.
    """

    text: str
    reasoning: str | None
    answer: str | None
    strict: bool
    soft: bool


def render(reasoning: str, answer: str) -> str:
    """Write a reply in the strict form.

    `parse(render(r, a))` gives `r` and `a` back, stripped, where neither holds a tag.
    """
    return (
        f"{REASONING_OPEN}\n{reasoning.strip()}\n{REASONING_CLOSE}\n"
        f"{ANSWER_OPEN}\n{answer.strip()}\n{ANSWER_CLOSE}"
    )


def messages(question: str) -> list[dict[str, str]]:
    """The chat that asks `question`, for any chat template.

    The format is a system message: Gemma's template puts it before the first user text.
    """
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


def parse(text: str) -> Reply:
    """Read a completion back.  Never raises: a malformed reply is data, not an error."""
    reasoning = _only_block(text, REASONING_OPEN, REASONING_CLOSE)
    answer = _only_block(text, ANSWER_OPEN, ANSWER_CLOSE)
    if answer is not None and _reasons_after(text, answer.start):
        answer = None
    soft = reasoning is not None and answer is not None and _is_soft(text, reasoning, answer)
    return Reply(
        text=text,
        reasoning=None if reasoning is None else text[reasoning.start : reasoning.end].strip(),
        answer=None if answer is None else text[answer.start : answer.end].strip(),
        strict=soft and _is_strict(text),
        soft=soft,
    )


def fenced(text: str) -> tuple[str, str] | None:
    """The language, as written, and the lines of a text that is one fence and nothing else."""
    if not (text.startswith(FENCE) and text.endswith(FENCE) and text.count(FENCE) == 2):
        return None
    language, newline, inside = text[len(FENCE) : -len(FENCE)].partition("\n")
    return (language, inside) if newline else None


class _Block(NamedTuple):
    start: int  # of the block's content, in characters
    end: int


def _only_block(text: str, opening: str, closing: str) -> _Block | None:
    tag = find_only(text, opening)
    if tag < 0:
        return None
    start, end = tag + len(opening), find_only(text, closing)
    return _Block(start, end) if end >= start else None


def find_only(text: str, tag: str) -> int:
    """Where `tag` stands in `text` when it stands there exactly once, else -1."""
    first = text.find(tag)
    return first if first < 0 or text.find(tag, first + len(tag)) < 0 else -1


def _reasons_after(text: str, position: int) -> bool:
    return text.find(REASONING_OPEN, position) >= 0 or text.find(REASONING_CLOSE, position) >= 0


def _is_soft(text: str, reasoning: _Block, answer: _Block) -> bool:
    around = (
        text[: reasoning.start - len(REASONING_OPEN)],
        text[reasoning.end + len(REASONING_CLOSE) : answer.start - len(ANSWER_OPEN)],
        text[answer.end + len(ANSWER_CLOSE) :],
    )
    return (
        not any(part.strip() for part in around)
        and _holds_a_word(text[reasoning.start : reasoning.end])
        and _shows_something(text[answer.start : answer.end])
    )


def _holds_a_word(content: str) -> bool:
    content = content.strip()[:MAX_UNSEEN]
    word = _first_word(content)
    if word < 0 or not _MAY_HIDE.search(content, 0, word):
        return word >= 0
    return _first_word(_rendered(content)) >= 0


def _first_word(text: str) -> int:
    """Where the first letter or digit stands, else -1; a modifier (`ʼ`, `ꓸ`) alone is no word."""
    words = (found.start() for found in _WORD.finditer(text))
    return next((place for place in words if unicodedata.category(text[place]) != "Lm"), -1)


def _shows_something(content: str) -> bool:
    """Whether anything is to be seen: an answer may be a sign alone, as `[]` or `+`."""
    content = content.strip()[:MAX_UNSEEN]
    return _holds_a_word(content) or any(map(_is_seen, _rendered(content)))


def _rendered(content: str) -> str:
    """The content without what a page or a typesetter would not show."""
    return printed(shown(content), hides)


def _is_seen(character: str) -> bool:
    """A mark, a symbol or a modifier; letters and digits are words, the rest needs one to show."""
    kind = unicodedata.category(character)
    return (kind[0] in "PS" or kind == "Lm") and character not in _BLANK_SIGNS


def _is_strict(text: str) -> bool:
    """Whether the newlines stand where `render` puts them, in a text already known to be soft."""
    return (
        text.startswith(f"{REASONING_OPEN}\n")
        and f"\n{REASONING_CLOSE}\n{ANSWER_OPEN}\n" in text
        and text.removesuffix("\n").endswith(f"\n{ANSWER_CLOSE}")
    )


def completion_text(completion: object, position: int = 0) -> str:
    """The text of one completion: itself, or the last message of the assistant.

    A list without such a message, or a message whose content is None (tool calls only), is "".
    Content in parts gives its text parts, joined.

    Raises:
        TypeError: `completion` (number `position` of the batch) is none of these.
    """
    if isinstance(completion, str):
        return completion
    if not isinstance(completion, list | tuple):
        raise TypeError(_not_a_completion(completion, position))
    content: object = ""
    for message in completion:
        if not isinstance(message, Mapping):
            raise TypeError(_not_a_completion(message, position))
        if message.get("role", "assistant") == "assistant":
            content = message.get("content")
    return _content_text(content, position)


def _content_text(content: object, position: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        return "".join(str(part.get("text") or "") for part in content)
    raise TypeError(_not_a_completion(content, position))


def _not_a_completion(found: object, position: int) -> str:
    return (
        f"completion {position}: expected a text or a list of messages, "
        f"got {type(found).__name__}: {repr(found)[:80]}"
    )
