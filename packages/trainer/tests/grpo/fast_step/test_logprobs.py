"""Log-probabilities by parts against torch's own, forwards and backwards."""

import pytest
import torch

pytestmark = pytest.mark.gpu


def reference(hidden, head, labels, factor):
    logits = (hidden.double() @ head.double().t()) * factor
    logprobs = logits.log_softmax(-1)
    entropies = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(1, labels[:, None])[:, 0], entropies


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
    monkeypatch.setattr(module, "PART_BYTES", 10 * vocabulary * dtype.itemsize)  # ten tokens
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
    for one, other in ((found, expected), (entropies, expected_entropies), (grad, expected_grad)):
        error = (one.double() - other).norm() / other.norm()
        assert error < tolerance


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


def test_trl_is_given_this_one_and_keeps_its_own_for_what_it_cannot_do():
    from trl.trainer import grpo_trainer

    from xmlgrpo_trainer.grpo.fast_step.logprobs import ForTrl, use_in_trl

    use_in_trl()
    use_in_trl()  # twice is once
    assert isinstance(grpo_trainer._ChunkedLogProbFunction, ForTrl)
    assert not isinstance(grpo_trainer._ChunkedLogProbFunction.original, ForTrl)
    hidden = torch.randn(9, 32, device="cuda")
    head, labels = torch.randn(50, 32, device="cuda"), torch.randint(0, 50, (9,), device="cuda")
    apply = grpo_trainer._ChunkedLogProbFunction.apply
    ours, _ = apply(hidden, head, None, labels, 0.8, 16)
    capped, _ = apply(hidden, head, None, labels, 0.8, 16, 5.0)  # soft-capping: trl's own
    logits = hidden @ head.t()
    torch.testing.assert_close(
        ours, reference(hidden, head, labels, 1 / 0.8)[0].float(), atol=1e-4, rtol=1e-4
    )
    soft = (5.0 * torch.tanh(logits / 5.0) / 0.8).log_softmax(-1).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(capped, soft, atol=1e-4, rtol=1e-4)
