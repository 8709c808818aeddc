"""The policy's log-probabilities from float32 logits, as an engine draws by them.

What trl 1.14.2 computes in chunks (`trl/trainer/utils.py`, `_ChunkedLogProbFunction`) it reduces in
float32, but from logits that were rounded to the model's number type.  Rounded, two halves that
agree on the hidden state may still part by a step of the grid: 0.125 at logits of 16 to 32.
"""

from typing import Any

import torch
from torch import Tensor
from trl.trainer import grpo_trainer


class ForTrl:
    """Stands in trl's place for its function of the same call.

    On a GPU the kernels of `logprobs` serve it; what they do not know, and a CPU, trl's own does,
    with its chunks of hidden states and head in float32.
    """

    def __init__(self, original: Any) -> None:
        self.original = original

    def apply(  # noqa: PLR0917 - trl passes them by position
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk_size: int,
        final_logit_softcapping: float | None = None,
        logit_scale: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies; the arguments are trl's."""
        served = hidden.is_cuda and weight.is_floating_point() and not weight.requires_grad
        if served and bias is None and final_logit_softcapping is None:
            from xmlgrpo_trainer.grpo.fast_step.logprobs import TokenLogProbs  # needs Triton

            computed: tuple[Tensor, Tensor] = TokenLogProbs.apply(  # type: ignore[no-untyped-call]
                hidden, weight, targets, logit_scale / temperature
            )
            return computed
        with torch.autocast(hidden.device.type, enabled=False):  # it would choose the number type
            own: tuple[Tensor, Tensor] = self.original.apply(
                hidden.float(),
                weight,
                bias,
                targets,
                temperature,
                chunk_size,
                final_logit_softcapping,
                logit_scale,
            )
        return own


def use_in_trl() -> None:
    """Have trl's chunked path compute log-probabilities here."""
    original = grpo_trainer._ChunkedLogProbFunction  # noqa: SLF001 - trl offers no hook
    if not isinstance(original, ForTrl):
        grpo_trainer._ChunkedLogProbFunction = ForTrl(original)  # noqa: SLF001


def in_chunks_of_float32(trainer: Any) -> None:
    """Have a trainer that computes in 16 bits on a CPU take trl's chunked path.

    It needs no kernel of liger's, whose name trl's switch has; its whole logits are in 16 bits.
    trl 1.16 has a head of its own, always.
    """
    if not hasattr(grpo_trainer, "_ChunkedLogProbFunction"):
        return
    use_in_trl()
    trainer.use_liger_kernel = True
    trainer._forward_redirection = grpo_trainer._ForwardRedirection()  # noqa: SLF001
