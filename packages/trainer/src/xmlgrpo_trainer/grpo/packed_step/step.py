"""trl's loss over packed rows: three methods of its trainer are replaced.

trl stays the owner of the loss: it asks for the log-probabilities of a batch, and gets them from
one packed row instead of padded ones.  Where every term of the loss is a multiple of the advantage,
completions without one are left out: their gradient is zero, and so is their part of the loss.
"""

from typing import Any

import torch
from torch import Tensor
from trl.trainer import grpo_trainer

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.weights import base_model, text_decoder
from xmlgrpo_trainer.grpo.fast_step.padding import BY_KIND, ONE_MASK
from xmlgrpo_trainer.grpo.packed_step.attention import take_layouts
from xmlgrpo_trainer.grpo.packed_step.layout import Layout, pack

# the losses whose divisor counts the whole generation batch, and not the rows that are there
SUMS = ("dapo", "cispo", "vespo")


def use_packed_rows(trainer: Any) -> None:
    """Have a trainer compute packed rows.

    Args:
        trainer: trl's `GRPOTrainer`, whose model comes from transformers; changed in place.

    Raises:
        UserError: the model is of another kind, or several processes would not share gradients.
    """
    body = text_decoder(base_model(trainer.model))
    config = body.config
    known, name = BY_KIND + ONE_MASK, type(body).__name__
    if name not in known or config.attention_dropout:
        raise UserError(
            f"packed_rows: expected one of {', '.join(known)} without attention dropout, got "
            f"{name}; set packed_rows to false"
        )
    if trainer.accelerator.num_processes > 1 and not trainer.use_liger_kernel:
        raise UserError(
            "packed_rows: on several GPUs it needs liger-kernel, with which trl enters the model "
            "as a whole; install it, or set packed_rows to false"
        )
    take_layouts(config)
    PackedRows(trainer)


def leave_out_rows_without_advantage(trainer: Any) -> None:
    """Have a trainer's loss not compute completions that it does not depend on.

    To be called when all else that changes the trainer's loss has been: what is left out, nobody
    measures.

    Args:
        trainer: trl's `GRPOTrainer`; changed in place.
    """
    is_multiple = (
        trainer.loss_type in SUMS
        and trainer.beta == 0
        and trainer.top_entropy_quantile == 1
        and not trainer._entropy_bonus_enabled  # noqa: SLF001 - trl has no hooks
    )
    if is_multiple:
        loss = trainer._compute_loss  # noqa: SLF001
        trainer._compute_loss = lambda model, inputs: loss(  # noqa: SLF001
            model, rows_with_advantage(inputs)
        )


def rows_with_advantage(inputs: dict[str, Any]) -> dict[str, Any]:
    """The completions of a batch of trl's that have one; at least one, so that there is a loss."""
    advantages = inputs["advantages"]
    kept_B = advantages != 0
    if advantages.dim() != 1 or kept_B.all():
        return inputs
    if not kept_B.any():
        kept_B[inputs["completion_mask"].sum(dim=1).argmin()] = True
    rows = len(advantages)
    return {name: value[kept_B] if _is_of(rows, value) else value for name, value in inputs.items()}


class PackedRows:
    """Puts packed rows in the place of trl's padded ones."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._padded = trainer._get_per_token_logps_and_entropies  # noqa: SLF001 - trl has no hooks
        trainer._get_per_token_logps_and_entropies = self._scored  # noqa: SLF001
        if trainer.args.steps_per_generation <= trainer.args.gradient_accumulation_steps:
            self._prepare = trainer._prepare_inputs  # noqa: SLF001
            trainer._prepare_inputs = self._in_order  # noqa: SLF001

    def _in_order(self, generation_batch: Any) -> Any:
        """Micro-batches of whole groups: one update learns from all, so their order is free."""
        usual = grpo_trainer.shuffle_sequence_dict
        grpo_trainer.shuffle_sequence_dict = _as_drawn
        try:
            return self._prepare(generation_batch)
        finally:
            grpo_trainer.shuffle_sequence_dict = usual

    def _scored(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *,
        compute_entropy: bool = False,
        batch_size: int | None = None,
        **named: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        if any(value is not None and value is not False for value in named.values()):  # an image
            padded: tuple[Tensor, Tensor | None, None] = self._padded(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                compute_entropy=compute_entropy,
                batch_size=batch_size,
                **named,
            )
            return padded
        inner = self._trainer.accelerator.unwrap_model(model)
        together = len(input_ids) if torch.is_grad_enabled() else batch_size or len(input_ids)
        starts = range(0, len(input_ids), together)
        parts = [
            self._row(inner, pack(input_ids[rows], attention_mask[rows], logits_to_keep))
            for rows in (slice(start, start + together) for start in starts)
        ]
        logprobs, entropies = (torch.cat(part) for part in zip(*parts, strict=True))
        return logprobs, entropies if compute_entropy else None, None

    def _row(self, model: Any, packed: Layout) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of each completion's tokens, (B, T) each."""
        base, trainer = base_model(model), self._trainer
        body, head = text_decoder(base), base.get_output_embeddings()
        like = packed.tokens
        # else transformers would make a mask of N x N numbers; one of four axes it leaves alone
        mask: Any = like.new_zeros(1, 1, 0, 0)
        if type(body).__name__ in BY_KIND:
            mask = dict.fromkeys(set(body.config.layer_types))
        with trainer.accelerator.autocast():
            hidden_1_N_C = body(
                input_ids=like[None],
                position_ids=packed.places[None],
                attention_mask=mask,
                use_cache=False,
                packed=packed,
            ).last_hidden_state
            logprobs_M, entropies_M = grpo_trainer._ChunkedLogProbFunction.apply(  # noqa: SLF001
                hidden_1_N_C[0, packed.reads],
                head.weight,
                head.bias,
                packed.labels,
                trainer.temperature,
                grpo_trainer._CHUNKED_LOGPROB_CHUNK_SIZE,  # noqa: SLF001
                getattr(body.config, "final_logit_softcapping", None),
                1.0,
            )
        is_token_B_T = packed.is_completion

        def in_rows(values_M: Tensor) -> Tensor:
            zeros_B_T = values_M.new_zeros(is_token_B_T.shape)
            return zeros_B_T.masked_scatter(is_token_B_T, values_M)

        return in_rows(logprobs_M), in_rows(entropies_M)


def _is_of(rows: int, value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == rows


def _as_drawn(batch: dict[str, Any]) -> dict[str, Any]:
    torch.randperm(len(batch["completion_ids"]))  # what is drawn next is what it would have been
    return batch
