"""What every rollout engine does, and where a completion ends."""

from collections.abc import Collection, Sequence
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


def cut_after_stop(tokens: Sequence[int], stop_ids: Collection[int]) -> list[int]:
    """The tokens up to and with the first stop token; all of them where there is none."""
    for place, token in enumerate(tokens):
        if token in stop_ids:
            return list(tokens[: place + 1])
    return list(tokens)


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
