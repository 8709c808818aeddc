"""The reply format: what the model is asked to write, and how it is read back.

This module is the only place that spells the tags.  The prompt, the reward functions, the
lm-eval task, the export check and `ask` import it.  A change here changes what every past number
means: bump `FORMAT_VERSION` in the same commit.

A completion is read with `str.find` and `str.count` only: one pass a tag, linear in its length
whatever it holds.  The usual regular expressions are quadratic or worse on hostile completions.
"""

from dataclasses import dataclass

FORMAT_VERSION = 1

REASONING_OPEN, REASONING_CLOSE = "<reasoning>", "</reasoning>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
TAGS = (REASONING_OPEN, REASONING_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)

SYSTEM = (
    "Reply in exactly this form:\n"
    f"{REASONING_OPEN}\n...\n{REASONING_CLOSE}\n{ANSWER_OPEN}\n...\n{ANSWER_CLOSE}"
)


@dataclass(frozen=True, slots=True)
class Reply:
    """A completion, read back.

    Attributes:
        text: the completion as it came.
        reasoning: what stands in the one `<reasoning>` block, stripped; None when there is not
            exactly one.
        answer: what stands in the one `<answer>` block, stripped; None when there is not exactly
            one, since a reply with two answers has not decided.
        strict: the whole text is the form of `render`, newlines included; one newline may follow.
        soft: the four tags once each and in order, with only white space around and between the
            two blocks.
    """

    text: str
    reasoning: str | None
    answer: str | None
    strict: bool
    soft: bool


def render(reasoning: str, answer: str) -> str:
    """Write a reply in the strict form; `parse(render(r, a))` gives `r` and `a` back, stripped."""
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
    soft = (
        reasoning is not None
        and answer is not None
        and reasoning.strip() != ""
        and answer.strip() != ""
        and _shell(text, reasoning, answer).split() == list(TAGS)
    )
    return Reply(
        text=text,
        reasoning=None if reasoning is None else reasoning.strip(),
        answer=None if answer is None else answer.strip(),
        strict=soft and _is_strict(text),
        soft=soft,
    )


def _only_block(text: str, opening: str, closing: str) -> str | None:
    if text.count(opening) != 1 or text.count(closing) != 1:
        return None
    start = text.index(opening) + len(opening)
    end = text.index(closing)
    return text[start:end] if start <= end else None


def _shell(text: str, reasoning: str, answer: str) -> str:
    """The text without the contents of its blocks: what stands around and between the tags."""
    head, _, rest = text.partition(REASONING_OPEN)
    rest = rest[len(reasoning) :]
    between, _, tail = rest.partition(ANSWER_OPEN)
    tail = tail[len(answer) :]
    spaced = between.replace(REASONING_CLOSE, f" {REASONING_CLOSE} ", 1)
    closed = tail.replace(ANSWER_CLOSE, f" {ANSWER_CLOSE} ", 1)
    return f"{head} {REASONING_OPEN} {spaced} {ANSWER_OPEN} {closed}"


def _is_strict(text: str) -> bool:
    """Whether the newlines stand where `render` puts them, in a text already known to be soft."""
    return (
        text.startswith(f"{REASONING_OPEN}\n")
        and f"\n{REASONING_CLOSE}\n{ANSWER_OPEN}\n" in text
        and text.removesuffix("\n").endswith(f"\n{ANSWER_CLOSE}")
    )
