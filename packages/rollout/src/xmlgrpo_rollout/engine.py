"""What every rollout engine does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from xmlgrpo_rollout.sampling import Sampling


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
