"""Log-probabilities by parts against torch's own, forwards and backwards."""

import pytest
import torch
from trl.trainer import grpo_trainer

from xmlgrpo_trainer.grpo.fast_step.float32_loss import ForTrl, use_in_trl

OWN = getattr(grpo_trainer, "_ChunkedLogProbFunction", None)
OWN = OWN.original if isinstance(OWN, ForTrl) else OWN


def reference(hidden, head, labels, factor):
    logits = (hidden.double() @ head.double().t()) * factor
    logprobs = logits.log_softmax(-1)
    entropies = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(1, labels[:, None])[:, 0], entropies


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        pytest.param(torch.float32, 1e-4, id="float32"),
        pytest.param(torch.bfloat16, 3e-2, id="bfloat16"),
    ],
)
@pytest.mark.parametrize("vocabulary", [77, 4096, 9001])
@pytest.mark.parametrize("with_entropy", [False, True], ids=["logprobs", "with-entropy"])
def test_values_and_gradients(dtype, tolerance, vocabulary, with_entropy, monkeypatch):
    from xmlgrpo_trainer.grpo.fast_step import logprobs as module

    torch.manual_seed(0)
    hidden = torch.randn(37, 64, device="cuda", dtype=dtype, requires_grad=True)
    head = (torch.randn(vocabulary, 64, device="cuda") / 8).to(dtype)
    labels = torch.randint(0, vocabulary, (37,), device="cuda")
    monkeypatch.setattr(module, "PART_BYTES", 10 * vocabulary * 6)  # ten tokens of bfloat16
    found, entropies = module.TokenLogProbs.apply(hidden, head, labels, 1.25)
    weights = torch.randn(37, device="cuda")
    loss = (found * weights).sum() + (entropies * weights.flip(0)).sum() * with_entropy
    (grad,) = torch.autograd.grad(loss, hidden)

    exact = hidden.detach().double().requires_grad_()
    expected, expected_entropies = reference(exact, head, labels, 1.25)
    loss = (
        expected @ weights.double() + expected_entropies @ weights.flip(0).double() * with_entropy
    )
    (expected_grad,) = torch.autograd.grad(loss, exact)
    # of the logits' gradient, which alone is in the model's number type
    limits = (1e-4, 1e-4, tolerance)
    pairs = ((found, expected), (entropies, expected_entropies), (grad, expected_grad))
    for limit, (one, other) in zip(limits, pairs, strict=True):
        error = (one.double() - other).norm() / other.norm()
        assert error < limit


@pytest.mark.gpu
def test_a_plain_sum_and_strided_labels():
    from xmlgrpo_trainer.grpo.fast_step.logprobs import TokenLogProbs

    torch.manual_seed(0)
    hidden = torch.randn(19, 32, device="cuda", requires_grad=True)
    head = torch.randn(300, 32, device="cuda")
    labels = torch.randint(0, 300, (19, 2), device="cuda")[:, 0]
    found, _ = TokenLogProbs.apply(hidden, head, labels, 1.0)
    (grad,) = torch.autograd.grad(found.sum(), hidden)
    expected = (hidden @ head.t()).log_softmax(-1).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    (expected_grad,) = torch.autograd.grad(expected.sum(), hidden)
    torch.testing.assert_close(grad, expected_grad, atol=1e-3, rtol=1e-3)


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.skipif(OWN is None, reason="this trl has another head, always")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("capped", [False, True], ids=["plain", "capped"])
def test_trl_is_given_this_one_and_keeps_its_own_for_what_it_cannot_do(device, capped, monkeypatch):
    monkeypatch.setattr(grpo_trainer, "_ChunkedLogProbFunction", OWN)
    use_in_trl()
    use_in_trl()  # twice is once
    assert grpo_trainer._ChunkedLogProbFunction.original is OWN
    torch.manual_seed(0)
    hidden = (3 * torch.randn(9, 32, device=device)).bfloat16().requires_grad_()
    head = torch.randn(50, 32, device=device).bfloat16()
    labels = torch.randint(0, 50, (9,), device=device)
    cap = 5.0 if capped else None
    with torch.autocast(device, dtype=torch.bfloat16):
        apply = grpo_trainer._ChunkedLogProbFunction.apply
        found, _ = apply(hidden, head, None, labels, 0.8, 16, cap)
        own, _ = OWN.apply(hidden, head, None, labels, 0.8, 16, cap)
    (grad,) = torch.autograd.grad(found.sum(), hidden)

    exact = hidden.detach().double().requires_grad_()
    logits = exact @ head.double().t()
    logits = cap * torch.tanh(logits / cap) if cap else logits
    expected = (logits / 0.8).log_softmax(-1).gather(1, labels[:, None])[:, 0]
    (expected_grad,) = torch.autograd.grad(expected.sum(), exact)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(grad.double(), expected_grad, atol=0.05, rtol=0.02)
    assert (own.double() - expected).abs().max() > 3e-3  # trl's: logits that were rounded
