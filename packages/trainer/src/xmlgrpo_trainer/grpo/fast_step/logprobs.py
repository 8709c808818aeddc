"""Log-probabilities of tokens from hidden states, part by part of the tokens.

trl 1.14.2 holds no whole logits either where `use_liger_kernel` is set, but passes over them some
twenty times (`trl/trainer/utils.py`, `_ChunkedLogProbFunction`).  Here a part's logits are read
once forwards and once backwards, by one kernel each.  They are in float32, their gradient's product
with the head is of the model's number type.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from xmlgrpo_rollout.weights import float32_product

PART_BYTES = 2**30  # of logits and their gradient held at once
BLOCK = 4096
ALIGNED = 16  # tokens


@triton.jit
def _reduce(logits, labels, logprobs, entropies, normalisers, factor, size, BLOCK: tl.constexpr):
    """Per row: log-sum-exp, the label's log-probability, the entropy; one pass, online."""
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK)
    highest = tl.full([BLOCK], -1e30, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    weighted = tl.zeros([BLOCK], tl.float32)
    for start in range(0, size, BLOCK):
        inside = start + places < size
        values = tl.load(logits + row * size + start + places, mask=inside, other=-1e30)
        values = tl.where(inside, values.to(tl.float32) * factor, -1e30)
        higher = tl.maximum(highest, values)
        shrink, grown = tl.exp(highest - higher), tl.exp(values - higher)
        total = total * shrink + grown
        weighted = weighted * shrink + grown * values
        highest = higher
    top = tl.max(highest, axis=0)
    shrink = tl.exp(highest - top)
    all_total = tl.sum(total * shrink, axis=0)
    normaliser = top + tl.log(all_total)
    label = tl.load(labels + row)
    chosen = tl.load(logits + row * size + label).to(tl.float32) * factor
    tl.store(normalisers + row, normaliser)
    tl.store(logprobs + row, chosen - normaliser)
    tl.store(entropies + row, normaliser - tl.sum(weighted * shrink, axis=0) / all_total)


@triton.jit
def _differentiate(
    logits,
    labels,
    normalisers,
    entropies,
    grad_logprobs,
    grad_entropies,
    factor,
    size,
    HAS_ENTROPY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Put the gradient of a row's logits in the place of the logits."""
    row = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = places < size
    values = tl.load(logits + row * size + places, mask=inside, other=0.0).to(tl.float32) * factor
    normaliser = tl.load(normalisers + row)
    probabilities = tl.exp(values - normaliser)
    is_label = (places == tl.load(labels + row)).to(tl.float32)
    grad = tl.load(grad_logprobs + row) * (is_label - probabilities)
    if HAS_ENTROPY:
        mean = normaliser - tl.load(entropies + row)
        grad -= tl.load(grad_entropies + row) * probabilities * (values - mean)
    result = (grad * factor).to(logits.dtype.element_ty)
    tl.store(logits + row * size + places, result, mask=inside)


def reduce(logits_N_V: Tensor, labels_N: Tensor, factor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability of each row's label, entropy, and logarithm of the normaliser, (N,) each."""
    # apart, not rows of one: Triton compiles anew for a pointer of another alignment
    logprobs_N, entropies_N, normalisers_N = (
        logits_N_V.new_empty(len(logits_N_V), dtype=torch.float32) for _ in range(3)
    )
    _reduce[(len(logits_N_V),)](
        logits_N_V,
        labels_N,
        logprobs_N,
        entropies_N,
        normalisers_N,
        factor,
        logits_N_V.shape[1],
        BLOCK=BLOCK,
        num_warps=8,
    )
    return logprobs_N, entropies_N, normalisers_N


def differentiate_(
    logits_N_V: Tensor,
    labels_N: Tensor,
    normalisers_N: Tensor,
    entropies_N: Tensor,
    grad_logprobs_N: Tensor,
    grad_entropies_N: Tensor | None,
    factor: float,
) -> None:
    """Put the gradient of the logits in their place; `reduce` has made the numbers of a row."""
    size = logits_N_V.shape[1]
    _differentiate[(len(logits_N_V), triton.cdiv(size, BLOCK))](
        logits_N_V,
        labels_N,
        normalisers_N,
        entropies_N,
        grad_logprobs_N,
        normalisers_N if grad_entropies_N is None else grad_entropies_N,
        factor,
        size,
        HAS_ENTROPY=grad_entropies_N is not None,
        BLOCK=BLOCK,
        num_warps=8,
    )


class TokenLogProbs(torch.autograd.Function):
    """Log-probability and entropy of each token, with the gradient of the hidden states.

    Axes: N tokens, C hidden size, V vocabulary.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_N_C: Tensor, head_V_C: Tensor, labels_N: Tensor, factor: float
    ) -> tuple[Tensor, Tensor]:
        """Reduce; logits are the product of hidden states and head, times `factor`."""
        ctx.set_materialize_grads(False)  # entropies are for the log: no gradient comes back
        hidden_N_C, labels_N = hidden_N_C.to(head_V_C.dtype), labels_N.contiguous()
        logprobs_N, entropies_N, normalisers_N = numbers = [
            hidden_N_C.new_empty(len(hidden_N_C), dtype=torch.float32) for _ in range(3)
        ]
        for part in _parts(hidden_N_C, head_V_C):
            found = reduce(float32_product(hidden_N_C[part], head_V_C), labels_N[part], factor)
            for whole_N, of_part in zip(numbers, found, strict=True):
                whole_N[part] = of_part
        ctx.save_for_backward(hidden_N_C, head_V_C, labels_N, normalisers_N, entropies_N)
        ctx.factor = factor
        return logprobs_N, entropies_N

    @staticmethod
    @once_differentiable  # the kernel's own gradient would be silently wrong
    def backward(
        ctx: Any, grad_logprobs_N: Tensor | None, grad_entropies_N: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Compute the logits again, and from them the gradient of the hidden states."""
        hidden_N_C, head_V_C, labels_N, normalisers_N, entropies_N = ctx.saved_tensors
        if grad_logprobs_N is None:
            grad_logprobs_N = torch.zeros_like(normalisers_N)
        # the gradient of a plain sum is one number, seen N times: the kernel reads N
        grad_logprobs_N = grad_logprobs_N.contiguous()
        if grad_entropies_N is not None:
            grad_entropies_N = grad_entropies_N.contiguous()
        grad_hidden_N_C = torch.empty_like(hidden_N_C)
        for part in _parts(hidden_N_C, head_V_C):
            logits = float32_product(hidden_N_C[part], head_V_C)
            differentiate_(
                logits,
                labels_N[part],
                normalisers_N[part],
                entropies_N[part],
                grad_logprobs_N[part],
                None if grad_entropies_N is None else grad_entropies_N[part],
                ctx.factor,
            )
            torch.mm(logits.to(head_V_C.dtype), head_V_C, out=grad_hidden_N_C[part])
        return grad_hidden_N_C, None, None, None


def _parts(hidden_N_C: Tensor, head_V_C: Tensor) -> list[slice]:
    gradient_bytes = 0 if head_V_C.dtype == torch.float32 else head_V_C.element_size()
    together = max(1, PART_BYTES // (head_V_C.shape[0] * (4 + gradient_bytes)))
    if together > ALIGNED:  # else Triton compiles anew for each alignment of a part's pointers
        together -= together % ALIGNED
    return [slice(at, at + together) for at in range(0, len(hidden_N_C), together)]
