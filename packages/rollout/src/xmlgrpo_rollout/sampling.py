"""How the next token is chosen from the model's logits."""

import math
from dataclasses import dataclass

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


def next_tokens(logits_R_V: Tensor, sampling: Sampling) -> Tensor:
    """One token a row, (R,), drawn from torch's global generator."""
    if sampling.is_greedy:
        return logits_R_V.argmax(dim=-1)
    probabilities_R_V = torch.softmax(filtered(logits_R_V.float(), sampling), dim=-1)
    return torch.multinomial(probabilities_R_V, 1)[:, 0]


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
