"""Models that are asked one question and answer piece by piece.

Both kinds get the tokens that training used: the task's chat, the model's own template, one BOS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.ask.source import Source
from xmlgrpo_trainer.plan.gpus import has_driver

Messages = list[dict[str, str]]
OnText = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the reply is drawn; temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """A whole reply.

    Attributes:
        text: without the token that ended it.
        tokens: how many were written, the one that ended it included.
        prompt_tokens: how many were read.
        finish: "stop" for the model's own end, "length" when it was cut off.
    """

    text: str
    tokens: int
    prompt_tokens: int
    finish: Literal["stop", "length"]


Speaker = Callable[[Messages, Settings, OnText], Said]


def load_speaker(source: Source) -> Speaker:
    """Load the model; what comes back answers chats.

    Raises:
        UserError: the model or a package that it needs is not there.
    """
    if source.kind == "gguf":
        from xmlgrpo_trainer.ask.gguf import GgufSpeaker

        return GgufSpeaker(source.name)
    if not has_driver():
        from xmlgrpo_trainer.ask.folder import folder_speaker

        speaker = folder_speaker(source)
        if speaker is not None:
            return speaker
    from xmlgrpo_trainer.ask.huggingface import TransformersSpeaker

    return TransformersSpeaker(source)


def check_room(prompt_tokens: int, settings: Settings, context: int) -> None:
    """Refuse what the model could not read or answer.

    Raises:
        UserError: prompt and reply are longer than the context.
    """
    if prompt_tokens + settings.max_new_tokens <= context:
        return
    room = context - prompt_tokens
    advice = f"ask with --max-new-tokens {room}" if room > 0 else "shorten the question"
    raise UserError(
        f"the question is {prompt_tokens} tokens long with its instructions, and up to "
        f"{settings.max_new_tokens} are to be written, but the model's context is {context} "
        f"tokens; {advice}"
    )
