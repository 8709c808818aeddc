"""What makes trl's and peft's training step fast on one GPU, and changes no result but by rounding.

A step of a small model spends its time in launches and in passes over the logits, not in products.
`lora` computes an adapted projection in three products without passes in between; `align` and
`window` let attention do without masks; `logprobs` turns hidden states into log-probabilities
without ever holding whole logits; `scoring` bounds the pass without gradient, which long
completions need.
"""

from typing import Any


def speed_up(trainer: Any) -> None:
    """Give trl's trainer, made for a model on a GPU, the operations of this package."""
    import torch

    from xmlgrpo_trainer.grpo.gpu.align import align_left
    from xmlgrpo_trainer.grpo.gpu.lora import fuse_lora

    # cuDNN plans its attention anew for every shape, 2 ms a call, and batches of texts have many;
    # at lengths that are multiples of 64 its gradients were not finite (torch 2.11, H100)
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)
    fuse_lora(trainer.model)
    if trainer.args.bf16:  # in float32 torch has no quick kernel for key heads that are shared
        align_left(trainer.model)
    if trainer.use_liger_kernel:
        from xmlgrpo_trainer.grpo.gpu.logprobs import use_in_trl
        from xmlgrpo_trainer.grpo.gpu.scoring import score_in_parts

        use_in_trl()
        score_in_parts(trainer)
