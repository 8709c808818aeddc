"""RMSNorm whose weight is frozen: its backward pass makes the inputs' gradient and nothing else.

LoRA trains no norm.  Liger's kernel makes the weight's gradient all the same, row after row in one
program for each multiprocessor: of a step of 0.90 s it took 26 ms (docs/measured/
step-profile-h200.json).  Here each program has some rows of its own.
"""

from types import MethodType
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xmlgrpo_rollout.weights import base_model, recipe_of, text_decoder

NUMBERS = 2048  # of a program at least, in as many rows as that takes
WARPS = 4


@triton.jit
def _weighed(weight, places, offset, size):
    return offset + tl.load(weight + places, mask=places < size, other=0.0).to(tl.float32)


@triton.jit
def _forward(
    inputs,
    weight,
    outputs,
    factors,
    eps,
    offset,
    rows,
    size,
    ROUNDS_FIRST: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    places = tl.arange(0, BLOCK)
    at = row[:, None] * size + places[None, :]
    is_there = (row[:, None] < rows) & (places[None, :] < size)
    values = tl.load(inputs + at, mask=is_there, other=0.0).to(tl.float32)
    factor = tl.rsqrt(tl.sum(values * values, axis=1) / size + eps)
    normed = values * factor[:, None]
    if ROUNDS_FIRST:
        normed = normed.to(outputs.dtype.element_ty).to(tl.float32)
    normed *= _weighed(weight, places, offset, size)[None, :]
    tl.store(outputs + at, normed.to(outputs.dtype.element_ty), mask=is_there)
    tl.store(factors + row, factor, mask=row < rows)


@triton.jit
def _backward(
    grads,
    inputs,
    weight,
    factors,
    grad_inputs,
    offset,
    rows,
    size,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    places = tl.arange(0, BLOCK)
    at = row[:, None] * size + places[None, :]
    is_there = (row[:, None] < rows) & (places[None, :] < size)
    factor = tl.load(factors + row, mask=row < rows, other=0.0)[:, None]
    normed = tl.load(inputs + at, mask=is_there, other=0.0).to(tl.float32) * factor
    grad = tl.load(grads + at, mask=is_there, other=0.0).to(tl.float32)
    grad *= _weighed(weight, places, offset, size)[None, :]
    along = tl.sum(grad * normed, axis=1)[:, None] / size
    result = factor * (grad - normed * along)
    tl.store(grad_inputs + at, result.to(grad_inputs.dtype.element_ty), mask=is_there)


class FrozenNorm(torch.autograd.Function):
    """The operation; the last axis is normed."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight_C: Tensor, eps: float, offset: int, rounds_first: int
    ) -> Tensor:
        """Norm; the recipe's `norm_offset` and `rounds_first` say how the weight is used."""
        inputs = inputs.contiguous()
        outputs = torch.empty_like(inputs)
        factors = inputs.new_empty(inputs.shape[:-1], dtype=torch.float32)
        grid, numbers, tiles = _shared_out(inputs)
        _forward[grid](
            inputs,
            weight_C,
            outputs,
            factors,
            eps,
            offset,
            *numbers,
            ROUNDS_FIRST=rounds_first,
            **tiles,
        )
        ctx.save_for_backward(inputs, weight_C, factors)
        ctx.offset = offset
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The inputs' gradient."""
        inputs, weight_C, factors = ctx.saved_tensors
        grad_inputs = torch.empty_like(inputs)
        grid, numbers, tiles = _shared_out(inputs)
        _backward[grid](
            grad.contiguous(),
            inputs,
            weight_C,
            factors,
            grad_inputs,
            ctx.offset,
            *numbers,
            **tiles,
        )
        return grad_inputs, None, None, None, None


def _shared_out(inputs: Tensor) -> tuple[tuple[int], tuple[int, int], dict[str, int]]:
    """The grid, rows and their size, and a program's tile."""
    size = inputs.shape[-1]
    rows, block = inputs.numel() // size, triton.next_power_of_2(size)
    together = max(1, NUMBERS // block)
    tiles = {"ROWS": together, "BLOCK": block, "num_warps": WARPS}
    return (triton.cdiv(rows, together),), (rows, size), tiles


def freeze_norms(model: nn.Module) -> int:
    """Have a text model's norms use the operation above.

    Args:
        model: of one of the recipe's families, its norms frozen; changed in place.

    Returns:
        How many do.
    """
    recipe = recipe_of(model)
    norms: list[Any] = [
        module
        for module in text_decoder(base_model(model)).modules()
        if type(module).__name__.endswith("RMSNorm") and not module.weight.requires_grad
    ]

    def normed(norm: Any, inputs: Tensor) -> Tensor:
        outputs: Tensor = FrozenNorm.apply(  # type: ignore[no-untyped-call]  # torch's own gap
            inputs, norm.weight, recipe.eps, recipe.norm_offset, int(recipe.rounds_first)
        )
        return outputs

    for norm in norms:
        norm.forward = MethodType(normed, norm)
    return len(norms)
