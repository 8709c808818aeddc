"""A reward that random weights can be trained with: the five real ones give them nothing."""

from collections.abc import Sequence
from typing import Any

from xmlgrpo_rewards.reply import completion_text


def token_mix(completions: Sequence[Any], **_: Any) -> list[float]:
    """A number from 0 to 1 that differs from text to text and means nothing."""
    return [sum(map(ord, completion_text(completion))) % 11 / 10 for completion in completions]
