"""Give trl's trainer the operations of this folder."""

from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.recipe import FAMILIES
from xmlgrpo_rollout.weights import base_model
from xmlgrpo_trainer.config.batch import rows_together


def speed_up(trainer: Any) -> None:
    """Make the step of a trainer fast, whose model is on a GPU and comes from transformers."""
    import torch

    from xmlgrpo_trainer.grpo.fast_step.lora import fuse_lora
    from xmlgrpo_trainer.grpo.fast_step.padding import align_left

    # cuDNN plans its attention anew for every shape, 2 ms a call, and batches of texts have many;
    # at lengths that are multiples of 64 its gradients were not finite (torch 2.11, H100)
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)
    fuse_lora(trainer.model)
    if trainer.args.bf16:  # in float32 torch has no quick kernel for key heads that are shared
        align_left(trainer.model)
    if getattr(trainer, "use_liger_kernel", False):  # trl 1.16 has a head of its own, always
        from xmlgrpo_trainer.grpo.fast_step.float32_loss import use_in_trl

        use_in_trl()
        score_in_parts(trainer)


def score_in_parts(trainer: Any) -> None:
    """Have trl's trainer compute log-probabilities without gradient some rows at a time.

    The results are the same.  Where logits are in chunks trl 1.14.2 passes a whole generation batch
    at once, whatever the micro-batch (`grpo_trainer.py`, `_get_per_token_logps_and_entropies`): of
    long completions that pass, not the backward pass, then decides whether a run fits.
    """
    whole = trainer._get_per_token_logps_and_entropies  # noqa: SLF001 - trl offers no hook

    def in_parts(
        model: Any,
        input_ids: Any,
        attention_mask: Any,
        logits_to_keep: int,
        *,
        batch_size: int | None = None,
        **named: Any,
    ) -> Any:
        together = rows_together(input_ids.shape[1], batch_size or len(input_ids))
        # what belongs to images is not cut by rows; a backward pass gives no `batch_size`
        plain = all(value is None for value in named.values())
        if batch_size is None or together >= len(input_ids) or not plain:
            return whole(
                model, input_ids, attention_mask, logits_to_keep, batch_size=batch_size, **named
            )
        import torch

        parts = [
            whole(model, ids, mask, logits_to_keep, batch_size=batch_size, **named)
            for ids, mask in zip(
                input_ids.split(together), attention_mask.split(together), strict=True
            )
        ]
        return tuple(
            None if part[0] is None else torch.cat(part) for part in zip(*parts, strict=True)
        )

    trainer._get_per_token_logps_and_entropies = in_parts  # noqa: SLF001


def use_frozen_norms(trainer: Any) -> None:
    """Have a trainer's norms make no gradient of their weights, which LoRA does not train.

    Raises:
        UserError: there is no recipe for the model's norms, or it is not on a GPU.
    """
    kind = base_model(trainer.model).config.get_text_config().model_type
    if kind not in FAMILIES:
        raise UserError(
            f"frozen_norms: expected a model of the type {', '.join(FAMILIES)}, got {kind}; set it "
            "to false"
        )
    if trainer.model.device.type != "cuda":
        raise UserError("frozen_norms: its kernels need a GPU; set it to false on a CPU")
    from xmlgrpo_trainer.grpo.fast_step.norms import freeze_norms

    freeze_norms(trainer.model)
