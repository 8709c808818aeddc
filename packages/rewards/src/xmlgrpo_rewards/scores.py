"""The five classic GRPO reward functions, by their well-known names, without the known holes.

Each follows TRL's signature: `completions` is a list of texts or of message lists, other columns
of the data set come as keyword arguments of the same length, and one float a completion goes back.
Names and ranges are those of the GRPO demo that made them popular; what pays is not (see README):

| function                  | pays     | for                                              |
|---------------------------|----------|--------------------------------------------------|
| correctness_reward_func   | 0 or 2.0 | the number in the answer block equals the gold   |
| int_reward_func           | 0 or 0.5 | the answer block holds one whole number          |
| strict_format_reward_func | 0 or 0.5 | exactly the form asked for, newlines included    |
| soft_format_reward_func   | 0 or 0.5 | the same but for white space                     |
| xmlcount_reward_func      | 0 to 0.5 | 0.125 per tag, in order; less what follows the end |

A reply that a model could have made never raises: an empty one, one without a text (a message with
tool calls only) or a hostile one earns what it deserves.  What no model makes, such as a `None`, a
number, or a gold that is not a number, is a mistake of the caller and raises.
"""

from collections.abc import Sequence
from decimal import Decimal

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.numbers import parse_number
from xmlgrpo_rewards.reply import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    REASONING_CLOSE,
    REASONING_OPEN,
    Completion,
    completion_text,
    find_only,
    parse,
)

CORRECT = 2.0
WHOLE_NUMBER = 0.5
STRICT = 0.5
SOFT = 0.5
TAG = 0.125
CHARACTER_AFTER = 0.001  # taken off for each character after the close of the answer


def correctness_reward_func(
    prompts: object,  # noqa: ARG001 - not read, but the classic signature has it first
    completions: Sequence[Completion],
    answer: Sequence[str | int | float | Decimal],
    **_columns: object,
) -> list[float]:
    """2.0 where the number in the answer block equals the gold, else 0.

    Args:
        prompts: not read.
        completions: what the model wrote.
        answer: the gold of each completion: a number, or a text that `parse_number` reads.

    Raises:
        UserError: a gold is not a number.  Paying 0 for it would train on noise in silence.
        ValueError: there are more or fewer golds than completions.
        TypeError: a completion is neither a text nor a list of messages, or `answer` is no list.
    """
    texts = _texts(completions)
    if isinstance(answer, str):
        raise TypeError(f"expected a list of golds in `answer`, got one text: {answer!r}")
    if len(answer) != len(texts):
        raise ValueError(
            f"expected {len(texts)} golds in `answer`, one per completion, got {len(answer)}"
        )
    golds = [_gold(value, i) for i, value in enumerate(answer)]
    return [
        CORRECT if _answer_number(text) == gold else 0.0
        for text, gold in zip(texts, golds, strict=True)
    ]


def int_reward_func(completions: Sequence[Completion], **_columns: object) -> list[float]:
    """0.5 where the answer block holds one whole number in any writing `parse_number` reads."""
    return [
        WHOLE_NUMBER if _is_whole(_answer_number(text)) else 0.0 for text in _texts(completions)
    ]


def strict_format_reward_func(completions: Sequence[Completion], **_columns: object) -> list[float]:
    """0.5 where the reply is exactly the form of `reply.render`; reasoning may have many lines."""
    return [STRICT if parse(text).strict else 0.0 for text in _texts(completions)]


def soft_format_reward_func(completions: Sequence[Completion], **_columns: object) -> list[float]:
    """0.5 where the reply is one reasoning block, then one answer block, and white space."""
    return [SOFT if parse(text).soft else 0.0 for text in _texts(completions)]


def xmlcount_reward_func(completions: Sequence[Completion], **_columns: object) -> list[float]:
    """0.125 for each tag in its place, less 0.001 per character after the close; never below 0.

    A tag is in its place when it stands in the reply exactly once and after the tag before it; a
    closing tag needs its opening one.  What follows the first closing answer tag, beyond one
    newline, costs at most what the tags earned, also where a second closing tag follows.
    """
    return [_xmlcount(text) for text in _texts(completions)]


def _texts(completions: Sequence[Completion]) -> list[str]:
    if isinstance(completions, str | bytes):
        raise TypeError(f"expected a list of completions, got one {type(completions).__name__}")
    return [completion_text(completion, i) for i, completion in enumerate(completions)]


def _gold(value: str | int | float | Decimal, position: int) -> Decimal:
    number = parse_number(str(value))
    if number is None:
        raise UserError(
            f"answer[{position}]: expected a number as gold answer, got {value!r}; "
            "correctness_reward_func compares numbers, so correct the data or use another reward"
        )
    return number


def _answer_number(text: str) -> Decimal | None:
    answer = parse(text).answer
    return None if answer is None else parse_number(answer)


def _is_whole(number: Decimal | None) -> bool:
    return number is not None and number == number.to_integral_value()


def _xmlcount(text: str) -> float:
    earned, position = 0.0, 0
    for opening, closing in ((REASONING_OPEN, REASONING_CLOSE), (ANSWER_OPEN, ANSWER_CLOSE)):
        for tag in (opening, closing):
            found = find_only(text, tag)
            if found < position:
                break  # a closing tag without its opening one is not in its place either
            earned += TAG
            position = found + len(tag)
    first_close = text.find(ANSWER_CLOSE)
    if first_close < 0:
        return earned
    after = text[first_close + len(ANSWER_CLOSE) :].removeprefix("\n")
    return max(0.0, earned - CHARACTER_AFTER * len(after))
