"""How sure a share is: the interval that stands beside every accuracy we print."""

from dataclasses import dataclass
from math import sqrt

Z_95 = 1.959963984540054  # the standard normal's 97.5 % point


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `total`, with its 95 % interval.

    The interval is Wilson's score interval: right near 0 and 1 and for small samples, where the
    usual plus-minus one reaches past them.  (Wilson 1927, "Probable inference, the law of
    succession, and statistical inference", J. Am. Stat. Assoc. 22, p. 209.)
    """

    hits: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.total:
            raise ValueError(f"hits must lie in 0..total, got {self.hits} of {self.total}")

    @property
    def value(self) -> float:
        """The share itself; NaN when nothing was counted."""
        return self.hits / self.total if self.total else float("nan")

    @property
    def low(self) -> float:
        """The lower end of the interval; 0 when nothing was counted."""
        return self._bounds()[0]

    @property
    def high(self) -> float:
        """The upper end of the interval; 1 when nothing was counted."""
        return self._bounds()[1]

    def _bounds(self) -> tuple[float, float]:
        if not self.total:
            return 0.0, 1.0
        n, p, z = self.total, self.hits / self.total, Z_95
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low = 0.0 if self.hits == 0 else centre - half
        high = 1.0 if self.hits == self.total else centre + half
        return low, high

    def __str__(self) -> str:
        if not self.total:
            return "none counted"
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"
