"""The two computations of a comparison that its pairs do not have already."""

from collections.abc import Sequence

import numpy as np

from xmlgrpo_run.measures.paired import Difference

DRAWS = 4000  # of a bootstrap: its interval's ends then vary by about a tenth of its width
CHUNK = 200  # draws that are in memory at once
SEED = 0  # so that the same comparison gives the same interval


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number, in the same order.

    The smallest is multiplied by their number, the next by one less, and none is smaller than the
    one before it.  (Holm 1979, "A simple sequentially rejective multiple test procedure",
    Scand. J. Stat. 6, p. 65.)
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def seeds_interval(seeds: Sequence[Sequence[bool]], base: Sequence[bool]) -> Difference:
    """The mean gain of several seeds over their base, with a 95 % interval.

    A bootstrap over both: each draw takes as many seeds as there are, with repetition, and as many
    problems; the interval holds the middle 95 % of the draws.  With one seed only the problems
    vary.

    Args:
        seeds: right or wrong, [seeds][problems].
        base: right or wrong, [problems].
    """
    gains = np.asarray(seeds, dtype=np.float32) - np.asarray(base, dtype=np.float32)
    count, problems = gains.shape
    random = np.random.default_rng(SEED)
    means = []
    for _ in range(DRAWS // CHUNK):
        chosen = random.integers(count, size=(CHUNK, count))
        items = random.integers(problems, size=(CHUNK, problems))
        drawn = gains[chosen].mean(axis=1)  # [draws][problems]
        means.append(np.take_along_axis(drawn, items, axis=1).mean(axis=1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return Difference(float(gains.mean()), float(low), float(high))
