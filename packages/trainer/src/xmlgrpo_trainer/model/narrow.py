"""Products with float32 results, whatever the number type of their factors.

Logits rounded to bfloat16 lie 0.125 apart where real ones lie, between 16 and 32: what a token's
log-probability is then depends on the kernel.
"""

import torch
from torch import Tensor

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
        inputs_M_I = inputs_M_I.to(narrow)
        if device == "cuda":
            product_M_O = torch.mm(inputs_M_I, weight_O_I.t(), out_dtype=torch.float32)
        else:
            product_M_O = inputs_M_I.float() @ weight_O_I.float().t()
        return product_M_O if scale_M_1 is None else product_M_O * scale_M_1
