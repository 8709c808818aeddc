"""How far two models are apart: worked by hand."""

import numpy as np
import pytest

from xmlgrpo_exporter.check.distance import Distance, compare_logits, identical


def test_distance_of_two_coins():
    # KL of (1/2, 1/2) from (1/4, 3/4) is ln 2 - (ln 3) / 2 = 0.1438; the first token differs
    reference = np.log(np.array([[0.5, 0.5], [0.25, 0.75]], dtype=np.float32))
    other = np.log(np.array([[0.25, 0.75], [0.25, 0.75]], dtype=np.float32))
    distance = compare_logits(reference, other + 7.0)  # a constant changes no distribution
    assert distance.kl_sum == pytest.approx(np.log(2) - np.log(3) / 2, abs=1e-6)
    assert (distance.positions, distance.top1_same) == (2, 1)
    assert (distance + Distance()).mean_kl == pytest.approx(distance.kl_sum / 2)


def test_surplus_columns_are_left_out():
    reference = np.array([[1.0, 2.0, 9.0]], dtype=np.float32)
    assert compare_logits(reference, reference[:, :2]).mean_kl == pytest.approx(0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers(bad):
    distance = compare_logits(np.zeros((1, 2)), np.array([[0.0, bad]]))
    assert distance.mean_kl == float("inf")
    assert distance.as_json()["mean_kl"] is None


def test_positions_must_be_the_same():
    with pytest.raises(ValueError, match="1 positions against 2"):
        compare_logits(np.zeros((1, 2)), np.zeros((2, 2)))


def test_identical_counts_whole_replies():
    assert identical([[1, 2], [3]], [[1, 2], [3, 4]]) == 1
