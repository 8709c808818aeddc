"""Log-probabilities of tokens from hidden states, with the gradient made in the same pass.

What the head hands back for a token t, d log p(t) / d h = (onehot(t) - p) W, depends on nothing
that comes later but one factor.  So it is made while a part's logits are there, and the backward
pass only scales it: two products in place of three, and no logits are kept or made again.  Liger's
fused cross-entropy (arXiv 2410.10989) does so where the loss is known; here it is not yet.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from xmlgrpo_trainer.model.float16_products import wide_product

PART_BYTES = 2**30  # of float32 logits held at once


class Reduced(NamedTuple):
    """What is read off a part's logits: m numbers each, and gradients of the logits, (m, V)."""

    logprobs: Tensor
    entropies: Tensor
    slopes: list[Tensor]


class HeadLogProbs(torch.autograd.Function):
    """Log-probability and entropy of each token; axes: M tokens, C hidden size, V vocabulary."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes them by position
        ctx: Any,
        hidden_M_C: Tensor,
        head_V_C: Tensor,
        labels_M: Tensor,
        factor: float,
        learnt: int,
    ) -> tuple[Tensor, Tensor]:
        """Reduce; logits are the product of hidden states and head, times `factor`.

        Args:
            learnt: how many of both results the loss depends on: 1, or 2 with the entropies.
        """
        reduced = _by_kernels if hidden_M_C.is_cuda else _by_torch
        wanted = learnt if ctx.needs_input_grad[0] else 0
        logprobs_M = hidden_M_C.new_empty(len(hidden_M_C), dtype=torch.float32)
        entropies_M = torch.empty_like(logprobs_M)
        slopes = [torch.empty_like(hidden_M_C) for _ in range(wanted)]
        size = max(1, PART_BYTES // (len(head_V_C) * torch.float32.itemsize))
        for part in (slice(at, at + size) for at in range(0, len(hidden_M_C), size)):
            logits_m_V = wide_product(hidden_M_C[part], head_V_C)
            found = reduced(logits_m_V, labels_M[part], factor, wanted)
            logprobs_M[part], entropies_M[part] = found.logprobs, found.entropies
            for slope_M_C, slope_m_V in zip(slopes, found.slopes, strict=True):
                slope_M_C[part] = wide_product(slope_m_V, head_V_C.t())
        ctx.save_for_backward(*slopes)
        if learnt == 1:
            ctx.mark_non_differentiable(entropies_M)
        return logprobs_M, entropies_M

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what the forward pass has made."""
        scaled = [
            slope_M_C * grad_M[:, None]
            for slope_M_C, grad_M in zip(ctx.saved_tensors, grads, strict=False)
        ]
        grad_hidden_M_C = sum(scaled[1:], scaled[0]).to(ctx.saved_tensors[0].dtype)
        return grad_hidden_M_C, None, None, None, None


def _by_torch(logits_m_V: Tensor, labels_m: Tensor, factor: float, wanted: int) -> Reduced:
    logs_m_V = logits_m_V.mul_(factor).log_softmax(-1)
    chances_m_V = logs_m_V.exp()
    logprobs_m = logs_m_V.gather(1, labels_m[:, None])[:, 0]
    entropies_m = -(chances_m_V * logs_m_V).sum(-1)
    slopes = []
    if wanted:
        slope_m_V = chances_m_V.neg()
        slope_m_V.scatter_add_(1, labels_m[:, None], torch.ones_like(logprobs_m)[:, None])
        slopes.append(slope_m_V.mul_(factor))
    if wanted > 1:
        slopes.append(-factor * chances_m_V * (logs_m_V + entropies_m[:, None]))
    return Reduced(logprobs_m, entropies_m, slopes)


def _by_kernels(logits_m_V: Tensor, labels_m: Tensor, factor: float, wanted: int) -> Reduced:
    """The same by one pass over the logits for the numbers, and one for each gradient."""
    from xmlgrpo_trainer.grpo.fast_step.logprobs import differentiate_, reduce

    logprobs_m, entropies_m, normalisers_m = reduce(logits_m_V, labels_m, factor)
    ones_m = torch.ones_like(logprobs_m)
    slopes = [logits_m_V, *(logits_m_V.clone() for _ in range(1, wanted))][:wanted]
    grads = [(ones_m, None), (torch.zeros_like(ones_m), ones_m)]
    for slope_m_V, (of_logprobs_m, of_entropies_m) in zip(slopes, grads, strict=False):
        differentiate_(
            slope_m_V, labels_m, normalisers_m, entropies_m, of_logprobs_m, of_entropies_m, factor
        )
    return Reduced(logprobs_m, entropies_m, slopes)
