"""Two models on the same items: what changed, and how sure we are.

The two results are not independent samples: the hard items are hard for both models.  So the test
is McNemar's, on the items that only one of the two got right, in its exact binomial form, and the
interval of the difference is one for paired shares.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from statistics import fmean, stdev

from xmlgrpo_rewards.interval import Z_95


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference (second minus first) with its 95 % interval, in the scores' own unit."""

    value: float
    low: float
    high: float

    def is_within(self, tolerance: float) -> bool:
        """Whether the second loses no more than this share of 1."""
        return self.value >= -tolerance

    def __str__(self) -> str:
        return f"{self.value:+.1%} [{self.low:+.1%}, {self.high:+.1%}]"


@dataclass(frozen=True, slots=True)
class Paired:
    """How many items both, only the first, only the second and neither of two models got right."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def total(self) -> int:
        """How many items were compared."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def p_value(self) -> float:
        """Two-sided exact McNemar p; 1 when no item flipped.

        Given that an item flipped, either direction is as likely as the other if the models are
        equally good: p = 2 * P(X <= min(b, c)) for X ~ Binomial(b + c, 1/2), at most 1.
        (McNemar 1947, "Note on the sampling error of the difference between correlated proportions
        or percentages", Psychometrika 12, p. 153; the exact form is the sign test.)
        """
        flips = self.only_first + self.only_second
        ways = at_most = 1  # of choosing i of the flips, and up to i; whole numbers are exact
        for i in range(min(self.only_first, self.only_second)):
            ways = ways * (flips - i) // (i + 1)
            at_most += ways
        return min(1.0, float(Fraction(2 * at_most, 2**flips)))

    @property
    def difference(self) -> Difference:
        """Second minus first, with the interval of Bonett and Price.

        It is Wald's interval for paired shares after adding one item to each kind of flip, so it
        does not shrink to nothing when all flips go one way.  (Bonett and Price 2012, "Adjusted
        Wald confidence interval for a difference of binomial proportions based on paired data",
        J. Educ. Behav. Stat. 37, p. 479.)
        """
        if not self.total:
            return Difference(float("nan"), -1.0, 1.0)
        n = self.total + 2
        gained, lost = (self.only_second + 1) / n, (self.only_first + 1) / n
        half = Z_95 * sqrt((gained + lost - (gained - lost) ** 2) / n)
        value = (self.only_second - self.only_first) / self.total
        centre = gained - lost
        return Difference(value, max(-1.0, centre - half), min(1.0, centre + half))


def pair(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Count the two-by-two table of two aligned lists of right and wrong.

    Raises:
        ValueError: the lists differ in length.
    """
    cells = list(zip(first, second, strict=True))
    return Paired(
        both=cells.count((True, True)),
        only_first=cells.count((True, False)),
        only_second=cells.count((False, True)),
        neither=cells.count((False, False)),
    )


def mean_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Mean of the paired differences with a normal interval, for scores of any size.

    For pass@1 over several samples per item, where McNemar's test does not apply, and for lengths.
    Not for a handful of items: the interval is the large-sample one.  Differences of shares end at
    -1 and 1; of one item nothing is known, which for other scores is no interval at all.

    Raises:
        ValueError: the lists differ in length.
    """
    gaps = [b - a for a, b in zip(first, second, strict=True)]
    are_shares = all(0 <= score <= 1 for score in (*first, *second))
    most = 1.0 if are_shares else float("inf")
    value = fmean(gaps) if gaps else float("nan")
    if len(gaps) < 2:
        return Difference(value, -most, most)
    half = Z_95 * stdev(gaps) / sqrt(len(gaps))
    return Difference(value, max(-most, value - half), min(most, value + half))
