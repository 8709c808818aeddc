"""How far two models are apart, and may be: distributions at each position, and greedy replies.

Axes, as suffixes of names: t positions, v vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xmlgrpo_exporter.quants import Limits


@dataclass(frozen=True, slots=True)
class Distance:
    """Sums over positions, so that distances of several prompts can be added."""

    positions: int = 0
    kl_sum: float = 0.0  # of KL(reference || other), in nats
    kl_worst: float = 0.0
    top1_same: int = 0  # positions where both put the same token first
    finite: bool = True  # no NaN or infinity was among the other's logits

    @property
    def mean_kl(self) -> float:
        """Mean KL per position; infinite when nothing was compared or a logit was not finite."""
        return self.kl_sum / self.positions if self.positions and self.finite else float("inf")

    @property
    def top1(self) -> float:
        """Share of positions with the same first token; 0 when nothing was compared."""
        return self.top1_same / self.positions if self.positions else 0.0

    def within(self, limits: Limits) -> bool:
        """Whether the distributions are near enough."""
        return self.mean_kl <= limits.mean_kl and self.top1 >= limits.top1

    def as_json(self) -> dict[str, float | int | None]:
        """For a result file; the KL is None when it is not a number."""
        measured = self.positions > 0 and self.finite
        return {
            "positions": self.positions,
            "mean_kl": self.mean_kl if measured else None,
            "worst_kl": self.kl_worst if measured else None,
            "top1": self.top1,
        }

    def __add__(self, other: "Distance") -> "Distance":
        return Distance(
            self.positions + other.positions,
            self.kl_sum + other.kl_sum,
            max(self.kl_worst, other.kl_worst),
            self.top1_same + other.top1_same,
            self.finite and other.finite,
        )


def compare_logits(reference_tv: Any, other_tv: Any) -> Distance:
    """Compare two arrays of logits of the same positions.

    A model's table may be longer than its tokenizer's vocabulary, and a converter may cut the
    surplus: what both have is compared.

    Raises:
        ValueError: the numbers of positions differ.
    """
    import numpy as np

    if len(reference_tv) != len(other_tv):
        raise ValueError(f"{len(reference_tv)} positions against {len(other_tv)}")
    if not len(reference_tv):
        return Distance()
    common = min(reference_tv.shape[1], other_tv.shape[1])
    if not np.isfinite(other_tv[:, :common]).all():
        return Distance(positions=len(reference_tv), finite=False)
    log_p = _log_softmax(reference_tv[:, :common])
    log_q = _log_softmax(other_tv[:, :common])
    kl_t = np.maximum((np.exp(log_p) * (log_p - log_q)).sum(-1), 0.0)
    same = int((log_p.argmax(-1) == log_q.argmax(-1)).sum())
    return Distance(len(kl_t), float(kl_t.sum()), float(kl_t.max()), same)


def identical(reference: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> int:
    """How many replies (token ids) are the same in both lists."""
    return sum(list(a) == list(b) for a, b in zip(reference, other, strict=True))


def _log_softmax(logits_tv: Any) -> Any:
    import numpy as np

    wide = logits_tv.astype(np.float64)
    shifted = wide - wide.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
