"""Which tokens may be drawn, and how often each is."""

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.engine import (
    Sampling,
    filtered,
    next_tokens,
)
from xmlgrpo_rollout.weights import HEAD_ROWS, float32_product

# the 99.9 % point of chi-square, by degrees of freedom: a right sampler fails one time in 1000,
# and with a fixed seed always or never
CHI_SQUARE_999 = {7: 24.32, 3: 16.27, 2: 13.82}


def warped_by_transformers(logits, sampling):
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return warpers(None, logits)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="plain"),
        pytest.param({"temperature": 0.6}, id="cool"),
        pytest.param({"temperature": 1.7}, id="hot"),
        pytest.param({"top_k": 5}, id="top-k"),
        pytest.param({"top_k": 1}, id="top-1"),
        pytest.param({"top_k": 500}, id="top-k-larger-than-the-vocabulary"),
        pytest.param({"top_p": 0.9}, id="top-p"),
        pytest.param({"top_p": 0.01}, id="top-p-smaller-than-the-first-token"),
        pytest.param({"min_p": 0.1}, id="min-p"),
        pytest.param({"min_p": 1.0}, id="min-p-one"),
        pytest.param({"temperature": 1.3, "top_k": 20, "top_p": 0.8, "min_p": 0.05}, id="all"),
    ],
)
def test_filters_are_those_of_transformers(settings):
    sampling = Sampling(**({"max_new_tokens": 1, "temperature": 1.0} | settings))
    torch.manual_seed(0)
    logits = 3 * torch.randn(64, 61)
    logits[0] = 0.0  # all the same
    logits[1, :4] = 9.0  # a tie at the top
    ours, theirs = filtered(logits, sampling), warped_by_transformers(logits, sampling)
    assert torch.equal(ours == -torch.inf, theirs == -torch.inf)
    assert torch.allclose(ours.softmax(-1), theirs.softmax(-1), atol=1e-7)


def chi_square(counts, probabilities):
    expected = probabilities * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(
    ("settings", "freedom"),
    [
        pytest.param({}, 7, id="all-eight"),
        pytest.param({"temperature": 2.0}, 7, id="hot"),
        pytest.param({"top_k": 4}, 3, id="top-4"),
        pytest.param({"top_p": 0.85}, 2, id="top-p-leaves-three"),
    ],
)
def test_tokens_are_drawn_as_often_as_softmax_says(settings, freedom):
    sampling = Sampling(**({"max_new_tokens": 1, "temperature": 1.0} | settings))
    logits = torch.tensor([2.0, 1.5, 1.0, 0.0, -0.5, -1.0, -1.5, -2.0])
    torch.manual_seed(0)
    drawn = next_tokens(logits.expand(40_000, -1), sampling)
    counts = torch.bincount(drawn, minlength=8).double()
    probabilities = filtered(logits[None], sampling)[0].softmax(-1).double()
    possible = probabilities > 0
    assert int(possible.sum()) == freedom + 1
    assert counts[~possible].sum() == 0
    assert chi_square(counts[possible], probabilities[possible]) < CHI_SQUARE_999[freedom]


def test_a_wrong_temperature_would_be_noticed():
    """The bound above is sharp enough: samples at 1.1 are not taken for samples at 1."""
    logits = torch.tensor([2.0, 1.5, 1.0, 0.0, -0.5, -1.0, -1.5, -2.0])
    torch.manual_seed(0)
    drawn = next_tokens(logits.expand(40_000, -1), Sampling(1, temperature=1.1))
    counts = torch.bincount(drawn, minlength=8).double()
    assert chi_square(counts, logits.softmax(-1).double()) > 2 * CHI_SQUARE_999[7]


def test_greedy_takes_the_largest_logit():
    logits = torch.tensor([[0.0, 3.0, 2.0], [5.0, 4.0, 1.0]])
    assert next_tokens(logits, Sampling(1, temperature=0.0)).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param({"temperature": -1.0}, "temperature: expected 0", id="temperature"),
        pytest.param({"max_new_tokens": 0}, "max_new_tokens: expected 1 or more", id="no-tokens"),
        pytest.param({"top_p": 0.0}, "top_p: expected above 0", id="top-p-zero"),
        pytest.param({"top_p": 1.1}, "top_p: expected above 0", id="top-p-over-one"),
        pytest.param({"top_k": -1}, "top_k: expected 0", id="top-k"),
        pytest.param({"min_p": 1.5}, "min_p: expected from 0 to 1", id="min-p"),
        pytest.param({"temperature": float("nan")}, "temperature: expected", id="not-a-number"),
    ],
)
def test_settings_out_of_range_are_refused(settings, says):
    with pytest.raises(UserError, match=says):
        Sampling(**({"max_new_tokens": 1, "temperature": 1.0} | settings))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("number_type", [torch.float32, torch.bfloat16], ids=["float32", "bf16"])
@pytest.mark.parametrize("vocabulary", [7, HEAD_ROWS, 2 * HEAD_ROWS + 5])
def test_logits_are_not_rounded_to_the_models_number_type(device, number_type, vocabulary):
    torch.manual_seed(0)
    hidden = (4 * torch.randn(3, 64, device=device)).to(number_type)
    head = torch.randn(vocabulary, 64, device=device).to(number_type)
    logits, exact = float32_product(hidden, head), hidden.double() @ head.double().t()
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), exact, atol=1e-3, rtol=1e-5)
    rounded = (hidden @ head.t()).double()
    if number_type == torch.bfloat16:  # the limit is one that such logits would not keep
        assert (rounded - exact).abs().max() > 0.05
