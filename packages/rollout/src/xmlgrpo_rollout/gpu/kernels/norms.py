"""Norms with what stands around them: the embedding before, the residual sum between two of them.

One program a row.  Axes: R rows, C hidden size, I width of the MLP.
"""

import triton
import triton.language as tl
from torch import Tensor

from xmlgrpo_rollout.gpu.kernels.early import launch, wait_and_release
from xmlgrpo_rollout.recipe import Recipe


@triton.jit
def _rms_normed(values, weights, size, eps, like, ROUNDS_FIRST: tl.constexpr):
    """float32 in, float32 out; places past `size` hold zeros and stay zero.

    Where the family rounds before the weight, it rounds to the number type of `like`.
    """
    mean_square = tl.sum(values * values, axis=0) / size
    normed = values * tl.rsqrt(mean_square + eps)
    if ROUNDS_FIRST:
        normed = normed.to(like.dtype.element_ty).to(tl.float32)
    return normed * weights


@triton.jit
def _embed_norm(
    tokens,
    embedding,
    scale,
    weight,
    hidden,
    normed,
    size,
    eps,
    HAS_NORM: tl.constexpr,
    ROUNDS_FIRST: tl.constexpr,
    BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):
    wait_and_release(EARLY)
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK)
    inside = places < size
    token = tl.load(tokens + row)
    embedded = tl.load(embedding + token * size + places, mask=inside, other=0.0)
    scaled = (embedded * tl.load(scale).to(embedded.dtype)).to(hidden.dtype.element_ty)
    tl.store(hidden + row * size + places, scaled, mask=inside)
    result = scaled
    if HAS_NORM:
        weights = tl.load(weight + places, mask=inside, other=0.0)
        result = _rms_normed(scaled.to(tl.float32), weights, size, eps, normed, ROUNDS_FIRST)
    tl.store(normed + row * size + places, result.to(normed.dtype.element_ty), mask=inside)


@triton.jit
def _add_norm(
    mixed,
    weight_after,
    hidden,
    weight_before,
    normed,
    size,
    eps,
    FACTOR: tl.constexpr,
    HAS_AFTER: tl.constexpr,
    HAS_BEFORE: tl.constexpr,
    ROUNDS_FIRST: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):
    wait_and_release(EARLY)
    row, rows = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    places = tl.arange(0, BLOCK)
    inside = places < size
    number_type = hidden.dtype.element_ty
    if HAS_AFTER:
        after = tl.load(weight_after + places, mask=inside, other=0.0)
    values = tl.load(mixed + row * size + places, mask=inside, other=0.0).to(tl.float32)
    for part in tl.static_range(1, PARTS):
        values += tl.load(mixed + (part * rows + row) * size + places, mask=inside, other=0.0)
    update = values.to(number_type)
    if HAS_AFTER:
        values = update.to(tl.float32)
        update = _rms_normed(values, after, size, eps, hidden, ROUNDS_FIRST).to(number_type)
    if FACTOR != 1.0:
        update = (update.to(tl.float32) * FACTOR).to(number_type)
    total = tl.load(hidden + row * size + places, mask=inside, other=0.0) + update
    tl.store(hidden + row * size + places, total, mask=inside)
    result = total
    if HAS_BEFORE:
        before = tl.load(weight_before + places, mask=inside, other=0.0)
        result = _rms_normed(total.to(tl.float32), before, size, eps, hidden, ROUNDS_FIRST)
    tl.store(normed + row * size + places, result.to(number_type), mask=inside)


@triton.jit
def passed_share(gate, IS_SILU: tl.constexpr):
    """s, where the activation of g is g s: SiLU's, or that of GELU's tanh form.

    arXiv 1606.08415, section 2; tanh(y) = 2 sigmoid(2 y) - 1.
    """
    inner = gate
    if not IS_SILU:
        inner = 2 * (0.7978845608028654 * (gate + 0.044715 * gate * gate * gate))
    return tl.sigmoid(inner)


@triton.jit
def activated_times(gate, up, IS_SILU: tl.constexpr):
    """The activation of `gate`, which is in float32, rounded to the type of `up`, times that."""
    return (gate * passed_share(gate, IS_SILU)).to(up.dtype) * up


@triton.jit
def _gated(gate_up, out, size, IS_SILU: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = places < size
    gate = tl.load(gate_up + row * 2 * size + places, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * size + size + places, mask=inside, other=0.0)
    tl.store(out + row * size + places, activated_times(gate, up, IS_SILU), mask=inside)


def embed_norm(
    tokens_R: Tensor,
    embedding: Tensor,
    scale: Tensor,
    weight_C: Tensor | None,
    hidden_R_C: Tensor,
    normed_R_C: Tensor,
    recipe: Recipe,
    *,
    early: bool = False,
) -> None:
    """Write the scaled embeddings of tokens into `hidden_R_C`, and their norm.

    Where a family has no such norm, the embeddings themselves are written twice.  For `early` see
    `early.py`.
    """
    rows, size = hidden_R_C.shape
    _embed_norm[(rows,)](
        tokens_R,
        embedding,
        scale,
        scale if weight_C is None else weight_C,
        hidden_R_C,
        normed_R_C,
        size,
        recipe.eps,
        HAS_NORM=weight_C is not None,
        ROUNDS_FIRST=recipe.rounds_first,
        **_row(size),
        **launch(early=early),
    )


def add_norm(
    mixed: Tensor,
    weight_after_C: Tensor | None,
    hidden_R_C: Tensor,
    weight_before_C: Tensor | None,
    normed_R_C: Tensor,
    recipe: Recipe,
    *,
    early: bool = False,
) -> None:
    """Add the norm of `mixed` to `hidden_R_C`, and write the norm of that sum.

    Gemma 3 norms both what a block gives and what the next block takes; here the two meet.  Most
    other families have one of the two: where a weight is None, a vector stays as it is.

    Args:
        mixed: (rows, C), or (splits, rows, C) in float32 of a product whose parts are summed
            here, and rounded as it would have been.
        early: see `early.py`.
    """
    rows, size = hidden_R_C.shape
    _add_norm[(rows,)](
        mixed,
        hidden_R_C if weight_after_C is None else weight_after_C,
        hidden_R_C,
        hidden_R_C if weight_before_C is None else weight_before_C,
        normed_R_C,
        size,
        recipe.eps,
        FACTOR=recipe.residual_factor,
        HAS_AFTER=weight_after_C is not None,
        HAS_BEFORE=weight_before_C is not None,
        ROUNDS_FIRST=recipe.rounds_first,
        PARTS=mixed.shape[0] if mixed.dim() == 3 else 1,
        **_row(size),
        **launch(early=early),
    )


def gated(gate_up_R_2I: Tensor, out_R_I: Tensor, activation: str) -> None:
    """The activation of the first half times the second half."""
    rows, size = out_R_I.shape
    block = 1024
    _gated[(rows, triton.cdiv(size, block))](
        gate_up_R_2I, out_R_I, size, IS_SILU=is_silu(activation), BLOCK=block
    )


def is_silu(activation: str) -> bool:
    """Which of the recipe's two activations the kernels compute."""
    return activation == "silu"


def _row(size: int) -> dict[str, int]:
    block = triton.next_power_of_2(size)
    return {"BLOCK": block, "num_warps": min(16, max(1, block // 256))}
