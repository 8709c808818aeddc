"""Log-probabilities whose gradient is made in the forward pass, against torch's own."""

from typing import Any

import pytest
import torch

from xmlgrpo_trainer.grpo.packed_step import head as module

LARGE = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.mark.parametrize("device", ["cpu", LARGE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("learns_entropy", [False, True], ids=["", "entropy"])
def test_values_and_gradients(
    device: str, dtype: torch.dtype, *, learns_entropy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    vocabulary, tokens = 977, 37
    monkeypatch.setattr(module, "PART_BYTES", 10 * vocabulary * 4)  # ten tokens
    hidden = (4 * torch.randn(tokens, 64, device=device)).to(dtype).requires_grad_()
    head = (torch.randn(vocabulary, 64, device=device) / 4).to(dtype)
    labels = torch.randint(0, vocabulary, (tokens,), device=device)
    weights = torch.randn(tokens, device=device)

    def learnt(results: Any, of: torch.Tensor) -> torch.Tensor:
        logprobs, entropies = results
        loss = (logprobs * weights).sum() + (entropies * weights.flip(0)).sum() * learns_entropy
        (grad,) = torch.autograd.grad(loss, of)
        return grad

    found = module.HeadLogProbs.apply(hidden, head, labels, 1.25, 1 + learns_entropy)
    assert found[1].requires_grad == learns_entropy
    exact = hidden.detach().double().requires_grad_()
    logs = (exact @ head.double().t() * 1.25).log_softmax(-1)
    expected = logs.gather(1, labels[:, None])[:, 0], -(logs.exp() * logs).sum(-1)
    # sums are in float32 whatever the factors are; of logits up to 40
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=3e-5)
    grad, expected_grad = learnt(found, hidden), learnt(expected, exact)
    limit = 1e-5 if dtype == torch.float32 else 1e-2
    assert (grad.double() - expected_grad).norm() < limit * expected_grad.norm()


def test_without_gradient_nothing_of_it_is_made_and_no_token_is_no_fault() -> None:
    head = torch.randn(9, 4)
    logprobs, entropies = module.HeadLogProbs.apply(
        torch.zeros(0, 4), head, torch.zeros(0, dtype=torch.long), 1.0, 1
    )
    assert (len(logprobs), len(entropies)) == (0, 0)
    hidden = torch.zeros(0, 4, requires_grad=True)
    logprobs, _ = module.HeadLogProbs.apply(hidden, head, torch.zeros(0, dtype=torch.long), 1.0, 1)
    logprobs.sum().backward()
    assert hidden.grad is not None
