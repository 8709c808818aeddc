"""What every rollout engine does."""

from collections.abc import Sequence
from typing import Protocol

from xmlgrpo_rollout.sampling import Sampling


class Engine(Protocol):
    """Completes prompts; implementations are in `static.py` and `generate.py`."""

    def refresh(self) -> None:
        """Take over the model's weights as they are now; call it after they have changed."""

    def __call__(
        self, prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling
    ) -> list[list[int]]:
        """Complete every prompt `samples` times.

        Args:
            prompts: token ids, unpadded.
            samples: completions a prompt.
            sampling: how tokens are chosen.  What is drawn comes from torch's global generator,
                so that a resumed run draws what an uninterrupted one would have.

        Returns:
            Token ids, all completions of the first prompt first, each cut after its first stop
            token or at the length limit.
        """
        ...
