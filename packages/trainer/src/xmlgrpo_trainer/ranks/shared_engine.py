"""Held-out problems asked by all ranks at once: each answers its share, all get every reply."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xmlgrpo_rollout.sampling import Sampling
from xmlgrpo_trainer.ranks.processes import Ranks

if TYPE_CHECKING:
    from xmlgrpo_rollout.engine import Completion, Engine


class SharedEngine:
    """An engine over the engines of all ranks, for prompts that every rank has.

    Greedy replies are those of one process: a reply does not depend on who gives it.  With
    sampling they would be as good, but others: each rank draws with its own generator.

    Args:
        engine: this rank's own.
        ranks: this process among the others.
    """

    def __init__(self, engine: "Engine", ranks: Ranks) -> None:
        self.engine = engine
        self.ranks = ranks

    def refresh(self) -> None:
        """Take over the model's weights as they are now."""
        self.engine.refresh()

    def __call__(
        self, prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling
    ) -> "list[Completion]":
        """Complete every prompt `samples` times; see `xmlgrpo_rollout.engine.Engine`.

        Every rank calls this with the same arguments.
        """
        count = self.ranks.count
        own = prompts[self.ranks.index :: count]  # in turn, so that long prompts spread
        parts = self.ranks.gather(self.engine(own, samples, sampling) if own else [])
        groups = [
            parts[number % count][place : place + samples]
            for number in range(len(prompts))
            for place in [number // count * samples]
        ]
        return [completion for group in groups for completion in group]
