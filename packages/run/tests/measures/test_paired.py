from itertools import product
from math import comb, sqrt
from statistics import stdev

import pytest

from xmlgrpo_run.measures.paired import Paired, mean_difference, pair


def mcnemar_exact(only_first: int, only_second: int) -> float:
    return Paired(3, only_first, only_second, 4).p_value


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        pytest.param(0, 0, 1.0, id="no-flips"),
        pytest.param(1, 1, 1.0, id="one-each-way"),
        # twice one in 32: all five the same way
        pytest.param(0, 5, 0.0625, id="five-gained"),
        # twice 11 in 1024: none or one lost of ten
        pytest.param(1, 9, 0.021484375, id="one-lost-nine-gained"),
        # twice 110056 in 4194304: up to six lost of 22
        pytest.param(6, 16, 0.052478790283203125, id="six-against-sixteen"),
    ],
)
def test_mcnemar_matches_hand_worked_values(only_first, only_second, p):
    assert mcnemar_exact(only_first, only_second) == pytest.approx(p, abs=1e-15)
    assert mcnemar_exact(only_second, only_first) == mcnemar_exact(only_first, only_second)


def test_mcnemar_is_scipys_binomial_test():
    binomtest = pytest.importorskip("scipy.stats").binomtest
    for b, c in product(range(0, 60, 7), range(1, 60, 6)):
        assert mcnemar_exact(b, c) == pytest.approx(binomtest(b, b + c, 0.5).pvalue, rel=1e-12)


def test_thousands_of_flips_stay_finite():
    assert 0.0 <= mcnemar_exact(400, 6000) < 1e-300
    assert mcnemar_exact(5000, 5000) == 1.0


def test_pair_counts_the_four_cells():
    table = pair([True, True, False, False, False], [True, False, True, False, False])
    assert table == Paired(both=1, only_first=1, only_second=1, neither=2)
    assert table.total == 5


def test_pair_refuses_lists_of_different_length():
    with pytest.raises(ValueError, match="shorter"):
        pair([True, True], [True])


def test_interval_does_not_collapse_when_every_item_flips_one_way():
    gap = Paired(both=0, only_first=0, only_second=10, neither=0).difference
    assert gap.value == 1.0
    assert gap.low < 0.95


def test_difference_of_no_items_is_not_a_number():
    gap = Paired(0, 0, 0, 0).difference
    assert gap.value != gap.value
    assert (gap.low, gap.high) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("gain", "loss", "items"),
    [
        pytest.param(0.10, 0.05, 100, id="small-gain"),
        pytest.param(0.02, 0.02, 100, id="rare-flips"),
        pytest.param(0.30, 0.05, 40, id="large-gain-few-items"),
    ],
)
def test_the_interval_covers_the_truth_about_as_often_as_it_says(gain, loss, items):
    """Exact coverage, summed over every possible pair of flip counts."""
    covered = 0.0
    for up in range(items + 1):
        for down in range(items + 1 - up):
            chance = (
                comb(items, up)
                * comb(items - up, down)
                * gain**up
                * loss**down
                * (1 - gain - loss) ** (items - up - down)
            )
            gap = Paired(0, down, up, items - up - down).difference
            covered += chance * (gap.low <= gain - loss <= gap.high)
    assert 0.94 <= covered <= 0.995


def test_the_interval_of_bonett_and_price_worked_by_hand():
    # 50 items, 10 gained, 2 lost.  With one more of each, of 52: 11/52 - 3/52 = 8/52 = 0.153846;
    # variance (14/52 - (8/52)^2) / 52 = (0.269231 - 0.023669) / 52 = 0.0047223, its root 0.0687194;
    # 1.959964 * 0.0687194 = 0.1346876.  The value itself is 8/50.
    gap = Paired(both=20, only_first=2, only_second=10, neither=18).difference
    assert gap.value == 0.16
    assert (gap.low, gap.high) == pytest.approx((0.019159, 0.288534), abs=2e-6)


def test_mean_difference_of_shares():
    gap = mean_difference([0.0, 0.5, 1.0, 0.25], [0.5, 0.5, 1.0, 0.75])
    assert gap.value == pytest.approx(0.25)
    assert gap.low < 0.0 < gap.high


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [
        pytest.param([100.0, 120.0, 90.0], [30.0, 40.0, 35.0], -205 / 3, id="shorter"),
        pytest.param([100.0, 100.0, 100.0], [100.0, 101.0, 102.0], 1.0, id="by-one"),
    ],
)
def test_the_interval_of_lengths_is_not_cut_at_one(before, after, value):
    gap = mean_difference(before, after)
    assert gap.value == pytest.approx(value)
    # half a width of 1.96 standard errors to either side
    gaps = [b - a for a, b in zip(before, after, strict=True)]
    half = 1.959964 * stdev(gaps) / sqrt(3)
    assert (gap.low, gap.high) == pytest.approx((value - half, value + half), rel=1e-5)
