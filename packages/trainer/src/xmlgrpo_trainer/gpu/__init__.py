"""What makes trl's and peft's training step fast on one GPU, and changes no result but by rounding.

A step of a small model spends its time in launches and in passes over the logits, not in products.
`lora` computes an adapted projection in three products without passes in between; `logprobs`
turns hidden states into log-probabilities without ever holding whole logits.
"""

from typing import Any


def speed_up(trainer: Any) -> None:
    """Give trl's trainer, made for a model on a GPU, the operations of this package."""
    from xmlgrpo_trainer.gpu.lora import fuse_lora

    fuse_lora(trainer.model)
    if trainer.use_liger_kernel:
        from xmlgrpo_trainer.gpu.logprobs import use_in_trl

        use_in_trl()
