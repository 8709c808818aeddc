"""What every rollout engine does: how it is asked, how it draws tokens, what it gives back."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from xmlgrpo_rewards.errors import UserError


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings of one generation, with the meaning they have in transformers' `generate`.

    Attributes:
        max_new_tokens: a completion is cut after so many tokens.
        temperature: the logits are divided by it; 0 is greedy decoding, and the rest is not used.
        top_k: only this many most probable tokens; 0 for all.
        top_p: only the most probable tokens that together reach this probability.
        min_p: only tokens at least this share as probable as the most probable one.
    """

    max_new_tokens: int
    temperature: float
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        checks = {
            "max_new_tokens": (self.max_new_tokens >= 1, "1 or more"),
            "temperature": (0 <= self.temperature < math.inf, "0 (greedy) or more, and finite"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or more"),
            "min_p": (0 <= self.min_p <= 1, "from 0 to 1"),
        }
        for name, (is_right, expected) in checks.items():
            if not is_right:
                raise UserError(f"{name}: expected {expected}, got {getattr(self, name)!r}")

    @property
    def forbids(self) -> bool:
        """Whether some tokens may not be drawn at all."""
        return not self.is_greedy and (self.top_p < 1 or self.top_k > 0 or self.min_p > 0)

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine wrote after a prompt.

    Attributes:
        tokens: ids, cut after the first stop token or at the length limit.
        logprobs: of each token, under the engine's own weights and arithmetic, at the sampling's
            temperature and before top-k, top-p and min-p; None where the engine computes with the
            policy itself, so that there is nothing to compare.
    """

    tokens: list[int]
    logprobs: list[float] | None = None


class Engine(Protocol):
    """Completes prompts: `cpu.engine`, `gpu.engine` and `generate` hold one each."""

    def refresh(self) -> None:
        """Take over the model's weights as they are now; call it after they have changed."""

    def __call__(
        self, prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling
    ) -> list[Completion]:
        """Complete every prompt `samples` times.

        Args:
            prompts: token ids, unpadded.
            samples: completions a prompt.
            sampling: how tokens are chosen.  What is drawn comes from torch's global generator,
                so that a resumed run draws what an uninterrupted one would have.

        Returns:
            All completions of the first prompt first.
        """
        ...


def next_tokens(logits_R_V: Tensor, sampling: Sampling) -> Tensor:
    """One token a row, (R,), drawn from torch's global generator by float32 logits."""
    if sampling.is_greedy:
        return logits_R_V.argmax(dim=-1)
    probabilities_R_V = torch.softmax(filtered(logits_R_V, sampling), dim=-1)
    return torch.multinomial(probabilities_R_V, 1)[:, 0]


def logprobs_of(tokens_R: Tensor, logits_R_V: Tensor, sampling: Sampling) -> Tensor:
    """Of each row's token, (R,), as `Completion.logprobs` has them; at 1 where it is greedy."""
    scaled_R_V = logits_R_V / (sampling.temperature or 1.0)
    return scaled_R_V.log_softmax(dim=-1).gather(1, tokens_R[:, None])[:, 0]


def filtered(logits_R_V: Tensor, sampling: Sampling) -> Tensor:
    """Logits at the temperature, minus infinity for tokens that must not be drawn.

    The filters apply one after the other, in transformers' order: top-k, top-p, min-p.  Each sees
    the probabilities that the one before it left.
    """
    logits = logits_R_V / sampling.temperature
    impossible = float("-inf")
    if 0 < sampling.top_k < logits.shape[-1]:
        least_R_1 = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least_R_1, impossible)
    if sampling.top_p < 1:
        ascending_R_V, order_R_V = logits.sort(dim=-1)
        tail_R_V = ascending_R_V.softmax(dim=-1).cumsum(dim=-1) <= 1 - sampling.top_p
        tail_R_V[:, -1] = False
        logits = logits.masked_fill(
            torch.zeros_like(tail_R_V).scatter(1, order_R_V, tail_R_V), impossible
        )
    if sampling.min_p > 0:
        probabilities_R_V = logits.softmax(dim=-1)
        least_R_1 = sampling.min_p * probabilities_R_V.amax(dim=-1, keepdim=True)
        logits = logits.masked_fill(probabilities_R_V < least_R_1, impossible)
    return logits


def left_padded(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[list[list[int]], list[int]]:
    """Prompts of one length, and how much padding is before each."""
    length = max(map(len, prompts))
    padding = [length - len(prompt) for prompt in prompts]
    padded = [[pad_id] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
    return padded, padding


def in_parts(
    prompts: Sequence[Sequence[int]],
    samples: int,
    together: int,
    complete: Callable[[list[Sequence[int]], int], list[Completion]],
) -> list[Completion]:
    """Complete `together` prompts at a time, those of similar length side by side: less padding.

    `complete` gets some prompts and the number of their first completion, and gives back `samples`
    completions for each, as this does for all.
    """
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    completions: list[list[Completion]] = [[] for _ in prompts]
    for start in range(0, len(order), together):
        numbers = order[start : start + together]
        grown = complete([prompts[number] for number in numbers], start * samples)
        for place, number in enumerate(numbers):
            completions[number] = grown[place * samples : (place + 1) * samples]
    return [completion for group in completions for completion in group]
