import math

import pytest

from xmlgrpo_rewards import Share


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        # Newcombe 1998, Stat. Med. 17, p. 857, table I, method 3 (Wilson's score, no correction)
        pytest.param(81, 263, 0.2553, 0.3662, id="newcombe-81-of-263"),
        pytest.param(15, 148, 0.0624, 0.1605, id="newcombe-15-of-148"),
        pytest.param(0, 20, 0.0, 0.1611, id="newcombe-0-of-20"),
        pytest.param(1, 29, 0.0061, 0.1718, id="newcombe-1-of-29"),
        pytest.param(20, 20, 0.8389, 1.0, id="all-of-20"),
    ],
)
def test_wilson_interval(hits: int, total: int, low: float, high: float) -> None:
    share = Share(hits, total)
    assert (share.low, share.high) == pytest.approx((low, high), abs=5e-5)
    assert share.low <= share.value <= share.high


def test_nothing_counted_says_nothing() -> None:
    share = Share(0, 0)
    assert math.isnan(share.value)
    assert (share.low, share.high, str(share)) == (0.0, 1.0, "none counted")


def test_a_share_reads_as_per_cent_with_its_interval() -> None:
    assert str(Share(81, 263)) == "30.8% [25.5%, 36.6%]"


@pytest.mark.parametrize(("hits", "total"), [(-1, 3), (4, 3), (0, -1)])
def test_impossible_counts_are_refused(hits: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"hits must lie in 0..total, got {hits} of {total}"):
        Share(hits, total)
