"""An adapted projection as one differentiable operation: y = x W' + s (x A') B' (LoRA, eq. 3).

LoRA is arXiv 2106.09685.  peft computes the same in a dozen operations, each a pass over the
output; here the adapter's part is added by the product that makes it, forwards and backwards.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from xmlgrpo_rollout.weights import is_plain_lora, unpacked
from xmlgrpo_trainer.model.float16_products import is_narrow


class LoraLinear(torch.autograd.Function):
    """The operation; the frozen weight gets no gradient.

    Axes: M tokens, I inputs, O outputs, r the adapter's rank.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes them by position
        ctx: Any, inputs: Tensor, weight_O_I: Tensor, down_r_I: Tensor, up_O_r: Tensor, scale: float
    ) -> Tensor:
        """Project; `inputs` is (..., I), the result (..., O)."""
        inputs_M_I = inputs.reshape(-1, inputs.shape[-1])
        narrow_M_r = inputs_M_I @ down_r_I.to(inputs.dtype).t()
        outputs_M_O = inputs_M_I @ unpacked(weight_O_I).t()
        # autocast may have made the products narrower than their inputs
        narrow_M_r = narrow_M_r.to(outputs_M_O.dtype)
        outputs_M_O.addmm_(narrow_M_r, up_O_r.to(outputs_M_O.dtype).t(), alpha=scale)
        ctx.save_for_backward(inputs_M_I, narrow_M_r, down_r_I, up_O_r)
        ctx.weight = weight_O_I  # saved as it is: a packed weight's own attributes must survive
        ctx.scale, ctx.shape = scale, inputs.shape
        return outputs_M_O.view(*inputs.shape[:-1], outputs_M_O.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs and of both halves of the adapter."""
        inputs_M_I, narrow_M_r, down_r_I, up_O_r = ctx.saved_tensors
        grad_M_O = grad.reshape(-1, grad.shape[-1])
        grad_narrow_M_r = (grad_M_O @ up_O_r.to(grad.dtype)).mul_(ctx.scale)
        grad_down_r_I = (grad_narrow_M_r.t() @ inputs_M_I).to(down_r_I.dtype)
        grad_up_O_r = (grad_M_O.t() @ narrow_M_r).to(up_O_r.dtype).mul_(ctx.scale)
        grad_inputs = None
        if ctx.needs_input_grad[0]:
            grad_inputs_M_I = grad_M_O @ unpacked(ctx.weight)
            grad_inputs_M_I.addmm_(grad_narrow_M_r, down_r_I.to(grad.dtype))
            grad_inputs = grad_inputs_M_I.view(ctx.shape)
        return grad_inputs, None, grad_down_r_I, grad_up_O_r, None


def fuse_lora(model: nn.Module) -> int:
    """Make every plain LoRA projection of `model` use the operation above.

    Returns:
        How many do; others (dropout, bias, DoRA) stay as peft made them.
    """
    fused = 0
    for module in model.modules():
        if _is_fused(module):
            module.forward = MethodType(_forward, module)
            fused += 1
    return fused


def _is_fused(module: Any) -> bool:
    return (
        is_plain_lora(module)
        and not is_narrow(module.base_layer)
        and module.base_layer.bias is None
        and len(module.lora_A) == 1
        and all(isinstance(dropout, nn.Identity) for dropout in module.lora_dropout.values())
    )


def _forward(module: Any, inputs: Tensor, *arguments: Any, **named: Any) -> Tensor:
    [name, *more] = module.lora_A
    alone = not more and module.active_adapters == [name] and not arguments and not named
    if module.disable_adapters or module.merged or not alone:
        projected: Tensor = type(module).forward(module, inputs, *arguments, **named)
        return projected
    weight = module.base_layer.weight
    number_type = weight.dtype if weight.is_floating_point() else weight.quant_state.dtype
    outputs: Tensor = LoraLinear.apply(  # type: ignore[no-untyped-call]  # torch's own gap
        inputs.to(number_type),
        weight,
        module.lora_A[name].weight,
        module.lora_B[name].weight,
        module.scaling[name],
    )
    return outputs
