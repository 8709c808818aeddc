"""A product with joint, merged weights, whose gradient is that of the adapters in them.

The engine holds W + s B A of the projections that take the same input, one below the other, summed
and rounded.  Computing with that is one product where W, A and B apart are three for each of them,
and it is the very policy that draws.  Its gradient goes to A and B as if the sum were not rounded
("straight through", arXiv 1308.3432 section 4): they are the exact weights beside rounded ones, as
in any training in 16 bits (arXiv 1710.03740 section 3.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name in torch's own documentation
from torch import Tensor
from torch.autograd.function import once_differentiable

from xmlgrpo_trainer.model.float16_products import wide_product


@dataclass(frozen=True, slots=True)
class Adapter:
    """One projection's LoRA: its outputs are rows `rows` of the joint ones.

    Attributes:
        down, up: A, (r, I), and B, (o, r) (arXiv 2106.09685 eq. 3), which are trained.
        scale: s.
    """

    rows: slice
    down: Tensor
    up: Tensor
    scale: float


@dataclass(frozen=True, slots=True)
class JointAdapters:
    """The adapters of joint projections in the number type that is computed with.

    Axes: I inputs, O outputs, R ranks of all adapters.

    Attributes:
        members: what they are copies of.
        ranks: which of R are whose.
        down: all s A below one another, (R, I).
        up: each s B in its own rows and ranks, zeros elsewhere, (O, R).
    """

    members: tuple[Adapter, ...]
    ranks: tuple[slice, ...]
    down: Tensor
    up: Tensor

    @property
    def trained(self) -> list[Tensor]:
        """A and B of each member in turn."""
        return [part for member in self.members for part in (member.down, member.up)]


def join(members: Sequence[Adapter], outputs: int, dtype: torch.dtype) -> JointAdapters:
    """Room for the copies; `renew` fills it."""
    ranks, at = [], 0
    for member in members:
        ranks.append(slice(at, at + len(member.down)))
        at = ranks[-1].stop
    like = members[0].down
    down_R_I = like.new_zeros(at, like.shape[1], dtype=dtype)
    return JointAdapters(
        tuple(members), tuple(ranks), down_R_I, like.new_zeros(outputs, at, dtype=dtype)
    )


@torch.no_grad()
def renew(joined: Sequence[JointAdapters]) -> None:
    """Copy what the adapters are now, of all layers in a few launches."""
    copies: list[Tensor] = []
    sources: list[Tensor] = []
    scales: list[float] = []
    for joint in joined:
        for member, ranks in zip(joint.members, joint.ranks, strict=True):
            copies += [joint.down[ranks], joint.up[member.rows, ranks]]
            sources += [member.down, member.up]
            scales += [member.scale] * 2
    torch._foreach_copy_(copies, sources)
    torch._foreach_mul_(copies, scales)


class JointProduct(torch.autograd.Function):
    """The operation; axes as above, and M tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        merged_O_I: Tensor,
        bias_O: Tensor | None,
        adapters: JointAdapters,
        *_trained: Tensor,
    ) -> Tensor:
        """Multiply; `inputs` is (..., I), the result (..., O).

        Args:
            merged_O_I: with the adapters in it.
            _trained: the adapters' own `trained`, which the gradient goes to.
        """
        ctx.save_for_backward(inputs, merged_O_I, adapters.down, adapters.up)
        ctx.adapters = adapters
        return F.linear(inputs, merged_O_I, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs, and of each A and B."""
        inputs, merged_O_I, down_R_I, up_O_R = ctx.saved_tensors
        inputs_M_I, grad_M_O = inputs.reshape(-1, inputs.shape[-1]), grad.reshape(-1, len(up_O_R))
        grad_inputs = (grad_M_O @ merged_O_I).view_as(inputs) if ctx.needs_input_grad[0] else None
        narrow_M_R, grad_narrow_M_R = inputs_M_I @ down_R_I.t(), grad_M_O @ up_O_R
        grad_down_R_I = wide_product(grad_narrow_M_R.t(), inputs_M_I.t())
        grad_up_O_R = wide_product(grad_M_O.t(), narrow_M_R.t())
        grads: list[Tensor] = []
        for member, ranks in zip(ctx.adapters.members, ctx.adapters.ranks, strict=True):
            grads.append(grad_down_R_I[ranks].to(member.down.dtype))
            grads.append(grad_up_O_R[member.rows, ranks].to(member.up.dtype))
        return grad_inputs, None, None, None, *grads
