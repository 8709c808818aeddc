"""What was paid for: do the rewards tell right completions from wrong ones?

Where they do not, training learns whatever else is paid: that is how a reward is gamed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles

from xmlgrpo_viewer.reading.sampled import Sampled

OFTEN = 0.1  # a share of wrong completions, paid as right ones are, that is no accident: judgement
FEW = 4  # completions of a kind, from which on a quarter of them means something


@dataclass(frozen=True, slots=True)
class Paid:
    """The pay of right and of wrong completions; what is right in another form is neither."""

    right: int
    wrong: int
    right_mean: float
    wrong_mean: float
    usual: float  # a quarter of the right ones earned less
    as_right: int  # wrong ones that earned that or more
    by_reward: Mapping[str, tuple[float | None, float | None]]  # mean of right and of wrong ones

    @property
    def is_often(self) -> bool:
        """Whether wrong completions are paid as right ones too often for an accident."""
        return self.as_right >= FEW and self.as_right >= OFTEN * self.wrong

    def __str__(self) -> str:
        """Both in one sentence."""
        return (
            f"{self.as_right:,} of {self.wrong:,} wrong completions "
            f"({self.as_right / self.wrong:.0%}) earned what right ones earn, {self.usual:.3g} or "
            f"more. A right one earned {self.right_mean:.3g} on average, a wrong one "
            f"{self.wrong_mean:.3g}."
        )


def paid_for(sampled: Sequence[Sampled], weights: Mapping[str, float]) -> Paid | None:
    """How right and wrong completions were paid; None where there are too few of either."""
    right, wrong = ([one for one in sampled if one.outcome == kind] for kind in ("right", "wrong"))
    if min(len(right), len(wrong)) < FEW:
        return None
    earned, unearned = ([one.pay(weights) for one in ones] for ones in (right, wrong))
    usual = quantiles(earned, n=4)[0]
    names = dict.fromkeys(name for one in sampled for name in one.scores)
    return Paid(
        right=len(right),
        wrong=len(wrong),
        right_mean=fmean(earned),
        wrong_mean=fmean(unearned),
        usual=usual,
        as_right=sum(pay >= usual for pay in unearned),
        by_reward={
            name: (_mean(name, right, weights), _mean(name, wrong, weights)) for name in names
        },
    )


def _mean(name: str, ones: Sequence[Sampled], weights: Mapping[str, float]) -> float | None:
    """What a reward paid on average, weight applied; None where it never had an opinion."""
    scores = [score for one in ones if (score := one.scores.get(name)) is not None]
    return weights.get(name, 1.0) * fmean(scores) if scores else None
