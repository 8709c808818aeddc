"""Products with float32 results, whatever the number type of their factors.

Logits rounded to bfloat16 lie 0.125 apart where real ones lie, between 16 and 32: what a token's
log-probability is then depends on the kernel.

Gemma 3 leaves float16's range (65,504) in its residual stream, so on a GPU without bfloat16 (T4) it
is computed in float32, which uses no tensor core.  With `narrow_products` only the factors of each
product are in float16; all between products, the residual stream above all, stays in float32
(mixed precision, arXiv 1710.03740).  Each row of the inputs is divided by a power of two that
brings it into float16's range: exact, and gradients need no loss scaling.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xmlgrpo_rollout.weights import float32_product

HIGHEST = 14  # a row's largest number is brought to 2^13 ... 2^14


def wide_product(inputs_M_I: Tensor, weight_O_I: Tensor) -> Tensor:
    """Product x W' in float32, (M, O), of factors that are rounded to the weight's number type."""
    device, narrow = inputs_M_I.device.type, weight_O_I.dtype
    with torch.autocast(device, enabled=False):
        if narrow == torch.float32:
            return inputs_M_I.float() @ weight_O_I.t()
        scale_M_1 = None
        if narrow == torch.float16:
            highest_M_1 = inputs_M_I.float().abs().amax(dim=-1, keepdim=True)
            _, exponent_M_1 = torch.frexp(highest_M_1)
            scale_M_1 = torch.ldexp(torch.ones_like(highest_M_1), exponent_M_1 - HIGHEST)
            inputs_M_I = inputs_M_I / scale_M_1
        product_M_O = float32_product(inputs_M_I, weight_O_I)
        return product_M_O if scale_M_1 is None else product_M_O * scale_M_1


class NarrowProduct(torch.autograd.Function):
    """`wide_product` with a frozen weight, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight_O_I: Tensor) -> Tensor:
        """Project; `inputs` is (..., I), the result (..., O) in float32."""
        ctx.weight, ctx.shape = weight_O_I, inputs.shape
        product_M_O = wide_product(inputs.reshape(-1, inputs.shape[-1]), weight_O_I)
        return product_M_O.view(*inputs.shape[:-1], len(weight_O_I))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The inputs' gradient."""
        grad_M_I = wide_product(grad.reshape(-1, grad.shape[-1]), ctx.weight.t())
        return grad_M_I.view(ctx.shape), None


def narrow_products(model: Any) -> None:
    """Have a float32 model's projections, its head too, multiply float16 factors.

    Args:
        model: one from transformers, without an adapter yet.  Its matrices become float16 and are
            frozen; changed in place.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    linears: list[Any] = [module for module in model.modules() if type(module) is nn.Linear]
    is_tied = head.weight is embedding.weight
    for linear in linears:
        linear.weight = nn.Parameter(linear.weight.detach().half(), requires_grad=False)
        linear.forward = MethodType(_forward, linear)
    if is_tied:
        embedding.weight = head.weight
        embedding.forward = MethodType(_embedded, embedding)


def _embedded(embedding: Any, tokens: Tensor) -> Tensor:
    scale = getattr(embedding, "embed_scale", None)
    embedded = nn.functional.embedding(tokens, embedding.weight).float()
    return embedded if scale is None else embedded * scale.float()


def is_narrow(linear: nn.Module) -> bool:
    """Whether a projection multiplies as `narrow_products` has it."""
    return getattr(linear.forward, "__func__", None) is _forward


def _forward(linear: Any, inputs: Tensor) -> Tensor:
    outputs: Tensor = NarrowProduct.apply(inputs, linear.weight)  # type: ignore[no-untyped-call]
    return outputs if linear.bias is None else outputs + linear.bias
