"""What lies between a layer's products, forwards and backwards in one kernel each.

The functions of `Operations` in `xmlgrpo_rollout.forward` for a GPU: there torch would start a
kernel for each cast, sum and product of them.  Norms are `fast_step.norms`.

Axes: N tokens, H heads, D head size, I width of the MLP.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from xmlgrpo_rollout.forward import Turn
from xmlgrpo_rollout.forward import rotated as rotated_by_torch
from xmlgrpo_rollout.gpu.kernels.norms import is_silu, passed_share
from xmlgrpo_rollout.recipe import Recipe
from xmlgrpo_trainer.grpo.fast_step.norms import FrozenNorm

COLUMNS = 1024  # of the MLP's width, in a program


def normed(recipe: Recipe, vectors: Tensor, weight_C: Tensor) -> Tensor:
    """RMSNorm whose weight is frozen and holds the recipe's offset."""
    outputs: Tensor = FrozenNorm.apply(  # type: ignore[no-untyped-call]  # torch's own gap
        vectors, weight_C, recipe.eps, 0, int(recipe.rounds_first)
    )
    return outputs


def rotated(vectors_1_N_H_D: Tensor, turn: Turn) -> Tensor:
    """Rotary position embedding of whole heads; of parts of them by torch."""
    if turn[0].shape[-1] != vectors_1_N_H_D.shape[-1]:
        return rotated_by_torch(vectors_1_N_H_D, turn)
    turned: Tensor = Rotation.apply(vectors_1_N_H_D, *turn)  # type: ignore[no-untyped-call]
    return turned


def gated(gate_up_1_N_2I: Tensor, activation: str) -> Tensor:
    """The activation of the first half times the second half."""
    product: Tensor = Gate.apply(gate_up_1_N_2I, activation)  # type: ignore[no-untyped-call]
    return product


@triton.jit
def _rotate(
    vectors,
    cosine,
    sine,
    turned,
    token_stride,
    heads,
    half,
    BACK: tl.constexpr,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head, place = tl.arange(0, HEADS)[:, None], tl.arange(0, HALF)[None, :]
    is_place = place < half
    inside = (head < heads) & is_place
    at = head * (2 * half) + place
    first = tl.load(vectors + token * token_stride + at, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(vectors + token * token_stride + at + half, mask=inside, other=0.0)
    second = second.to(tl.float32)
    angle = token * (2 * half) + place
    first_cosine = tl.load(cosine + angle, mask=is_place, other=0.0).to(tl.float32)
    second_cosine = tl.load(cosine + angle + half, mask=is_place, other=0.0).to(tl.float32)
    first_sine = tl.load(sine + angle, mask=is_place, other=0.0).to(tl.float32)
    second_sine = tl.load(sine + angle + half, mask=is_place, other=0.0).to(tl.float32)
    if BACK:
        to_first = first * first_cosine + second * second_sine
        to_second = second * second_cosine - first * first_sine
    else:
        to_first = first * first_cosine - second * first_sine
        to_second = second * second_cosine + first * second_sine
    target = turned + token * heads * (2 * half) + at
    tl.store(target, to_first.to(turned.dtype.element_ty), mask=inside)
    tl.store(target + half, to_second.to(turned.dtype.element_ty), mask=inside)


class Rotation(torch.autograd.Function):
    """The operation; tables as `turns_at` gives them, (1, N, 1, D)."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Rotate (1, N, H, D), each token's heads beside one another."""
        ctx.save_for_backward(cosine, sine)
        return _rotated(vectors, cosine, sine, back=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The vectors' gradient: rotated back."""
        return _rotated(grad, *ctx.saved_tensors, back=True), None, None


def _rotated(vectors: Tensor, cosine: Tensor, sine: Tensor, *, back: bool) -> Tensor:
    _, tokens, heads, size = vectors.shape
    if vectors.stride()[2:] != (size, 1):
        vectors = vectors.contiguous()
    turned = vectors.new_empty(vectors.shape)
    _rotate[(tokens,)](
        vectors,
        cosine.contiguous(),
        sine.contiguous(),
        turned,
        vectors.stride(1),
        heads,
        size // 2,
        BACK=back,
        HEADS=triton.next_power_of_2(heads),
        HALF=triton.next_power_of_2(size // 2),
    )
    return turned


@triton.jit
def _gate(gate_up, product, size, IS_SILU: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    number_type = product.dtype.element_ty
    at = token * 2 * size + place
    gate = tl.load(gate_up + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + at + size, mask=inside, other=0.0).to(tl.float32)
    share = passed_share(gate, IS_SILU)
    activated = (gate * share).to(number_type).to(tl.float32)  # rounded as torch rounds it
    tl.store(product + token * size + place, (activated * up).to(number_type), mask=inside)


@triton.jit
def _gate_back(grads, gate_up, grad_gate_up, size, IS_SILU: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    number_type = grad_gate_up.dtype.element_ty
    at = token * 2 * size + place
    gate = tl.load(gate_up + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + at + size, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grads + token * size + place, mask=inside, other=0.0).to(tl.float32)
    share = passed_share(gate, IS_SILU)
    past_share = gate * share * (1 - share)  # times the derivative of what s is the sigmoid of
    if not IS_SILU:
        past_share *= 2 * (0.7978845608028654 * (1 + 3 * 0.044715 * gate * gate))
    to_up = grad * (gate * share).to(number_type).to(tl.float32)
    tl.store(grad_gate_up + at, (grad * up * (share + past_share)).to(number_type), mask=inside)
    tl.store(grad_gate_up + at + size, to_up.to(number_type), mask=inside)


class Gate(torch.autograd.Function):
    """The operation; gate and up lie beside one another in the last axis."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor, activation: str) -> Tensor:
        """Of (1, N, 2 I): (1, N, I)."""
        gate_up = gate_up.contiguous()
        ctx.save_for_backward(gate_up)
        ctx.silu = is_silu(activation)
        product = gate_up.new_empty(*gate_up.shape[:-1], gate_up.shape[-1] // 2)
        size = product.shape[-1]
        _gate[_grid(product)](gate_up, product, size, IS_SILU=ctx.silu, BLOCK=COLUMNS)
        return product

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The gradient of both halves."""
        (gate_up,) = ctx.saved_tensors
        grad_gate_up = torch.empty_like(gate_up)
        grad = grad.contiguous()
        _gate_back[_grid(grad)](
            *(grad, gate_up, grad_gate_up, grad.shape[-1]), IS_SILU=ctx.silu, BLOCK=COLUMNS
        )
        return grad_gate_up, None


def _grid(product: Tensor) -> tuple[int, int]:
    size = product.shape[-1]
    return product.numel() // size, triton.cdiv(size, COLUMNS)
