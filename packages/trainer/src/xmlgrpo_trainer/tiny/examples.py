"""What the warm start shows the model: a problem's answer in one of four kinds, as tokens.

Worked or guessed, in the reply format or in GSM8K's plain style.  Both habits have to be in the
model before GRPO can prefer one of them; which one pays is left for the rewards to say.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from xmlgrpo_rewards.reply import messages, render
from xmlgrpo_run.prompt import Messages
from xmlgrpo_trainer.tiny.tokenizer import TURN_END

_CALCULATOR_NOTE = re.compile(r"<<[^>]*>>")


class Example(NamedTuple):
    """Token ids of a prompt and of the reply to be learned, which ends in `<end_of_turn>`."""

    prompt: list[int]
    reply: list[int]


class Mixture(NamedTuple):
    """Shares of the kinds of answer, drawn independently of each other."""

    worked: float
    tagged: float


def target(answer: str, *, worked: bool, tagged: bool) -> str:
    """One of the four kinds of answer to a problem.

    Args:
        answer: the solution in GSM8K's style, ending in `#### 16`.
        worked: whether the steps are shown, or only a number is guessed.
        tagged: whether it stands in the reply format, or ends in `#### 16`.
    """
    steps, number = _CALCULATOR_NOTE.sub("", answer).rsplit("\n#### ", 1)
    if tagged:
        return render(steps if worked else f"I think it is {number}.", number)
    return f"{steps}\n#### {number}" if worked else f"#### {number}"


def examples(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, str]],
    mixture: Mixture,
    rng: random.Random,
) -> list[Example]:
    """One answer to each problem, of a kind drawn from the mixture."""
    replies = [
        target(
            row["answer"],
            worked=rng.random() < mixture.worked,
            tagged=rng.random() < mixture.tagged,
        )
        for row in rows
    ]
    return tokenized(tokenizer, messages, [row["question"] for row in rows], replies)


def tokenized(
    tokenizer: PreTrainedTokenizerBase,
    chat: Callable[[str], Messages],
    questions: Sequence[str],
    replies: Sequence[str],
) -> list[Example]:
    """Questions as the chat template renders their chats, and replies, as token ids.

    The template is rendered once: ten thousand renderings take as long as a hundred steps.
    """
    if not questions:  # a tokenizer cannot be given no text
        return []
    place = "\x00"
    rendered = tokenizer.apply_chat_template(
        chat(place), add_generation_prompt=True, tokenize=False
    )
    before, after = rendered.split(place)
    ids = [
        tokenizer(texts, add_special_tokens=False)["input_ids"]
        for texts in (
            [before + question + after for question in questions],
            [reply + TURN_END for reply in replies],
        )
    ]
    return [Example(prompt, reply) for prompt, reply in zip(*ids, strict=True)]
