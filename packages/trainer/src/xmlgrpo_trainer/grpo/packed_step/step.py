"""trl's loss over packed rows: three methods of its trainer are replaced.

trl stays the owner of the loss: it asks for the log-probabilities of a batch, and gets them from
one packed row instead of padded ones.  Where every term of the loss is a multiple of the advantage,
completions without one are left out: their gradient is zero, and so is their part of the loss.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from trl.trainer import grpo_trainer

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.weights import base_model, text_decoder
from xmlgrpo_trainer.grpo.fast_step.padding import BY_KIND, ONE_MASK
from xmlgrpo_trainer.grpo.lost_batches import COUNT
from xmlgrpo_trainer.grpo.packed_step.attention import take_layouts
from xmlgrpo_trainer.grpo.packed_step.head import HeadLogProbs
from xmlgrpo_trainer.grpo.packed_step.layout import Layout, pack

# what trl divides a loss by: tokens of the whole generation batch, rows or tokens that are there
OF_ALL = ("dapo", "cispo", "vespo")
OF_ROWS = ("grpo", "dr_grpo", "sapo", "luspo")
OF_TOKENS = ("bnpo",)


# the hidden states of a row, (N, hidden); None where the model itself must compute them
Pass = Callable[[Layout], Tensor | None]


def use_packed_rows(trainer: Any, merged: Pass | None = None) -> None:
    """Have a trainer compute packed rows.

    Args:
        trainer: trl's `GRPOTrainer`, whose model comes from transformers; changed in place.
        merged: `MergedPass`, or None for the model itself.

    Raises:
        UserError: the model is of another kind, or several processes would not share gradients.
    """
    body = text_decoder(base_model(trainer.model))
    config = body.config
    known, name = BY_KIND + ONE_MASK, type(body).__name__
    is_capped = getattr(config, "attn_logit_softcapping", None)
    if name not in known or config.attention_dropout or is_capped:
        raise UserError(
            f"packed_rows: expected one of {', '.join(known)} without attention dropout and "
            f"without a cap of the scores, got {name}; set packed_rows to false"
        )
    head = base_model(trainer.model).get_output_embeddings()
    if head.bias is not None or getattr(config, "final_logit_softcapping", None):
        raise UserError(
            "packed_rows: expected a head without bias and soft-capping, which this model has; set "
            "packed_rows to false"
        )
    take_layouts(config)
    PackedRows(trainer, merged)


def leave_out_rows_without_advantage(trainer: Any) -> None:
    """Have a trainer's loss not compute completions that it does not depend on.

    To be called when all else that changes the trainer's loss has been: what is left out, nobody
    measures.  Where the loss has a term of their own (a reference, an entropy bonus, a choice by
    entropy), nothing is left out.

    Args:
        trainer: trl's `GRPOTrainer`; changed in place.
    """
    is_multiple = (
        trainer.loss_type in OF_ALL + OF_ROWS + OF_TOKENS
        and trainer.beta == 0
        and trainer.top_entropy_quantile == 1
        and not trainer._entropy_bonus_enabled  # noqa: SLF001 - trl has no hooks
    )
    if not is_multiple:
        return
    usual, accelerator = trainer._compute_loss, trainer.accelerator  # noqa: SLF001

    def of_the_kept(model: Any, inputs: dict[str, Any]) -> Tensor:
        kept = rows_with_advantage(inputs, accelerator)
        loss: Tensor = usual(model, {**kept, COUNT: len(inputs["advantages"])})
        tokens, all_tokens = (of["completion_mask"].sum() for of in (kept, inputs))
        if trainer.loss_type in OF_ROWS:
            loss = loss * (len(kept["advantages"]) / len(inputs["advantages"]))
        elif trainer.loss_type in OF_TOKENS:
            loss = loss * (tokens / all_tokens.clamp(min=1))
        return loss

    trainer._compute_loss = of_the_kept  # noqa: SLF001


def rows_with_advantage(inputs: dict[str, Any], accelerator: Any) -> dict[str, Any]:
    """The completions of a batch of trl's that have one.

    At least one, so that there is a loss; and as many as any other process has, since trl gathers
    numbers of each row.  What is missing is filled up with the shortest of the others.
    """
    advantages = inputs["advantages"]
    if advantages.dim() != 1:
        return inputs
    has_none_B = advantages == 0
    count = (~has_none_B).sum()
    most = max(1, int(accelerator.gather(count[None]).max()))
    rows = len(advantages)
    if most == rows:
        return inputs
    lengths_B = inputs["completion_mask"].sum(dim=1)
    # one that trl masks would be logged as one of no length and no entropy
    lengths_B = lengths_B.masked_fill(lengths_B == 0, inputs["completion_mask"].shape[1] + 1)
    order = (has_none_B * (1 + lengths_B)).argsort(stable=True)
    kept = order[:most].sort().values
    return {name: value[kept] if _is_of(rows, value) else value for name, value in inputs.items()}


class PackedRows:
    """Puts packed rows in the place of trl's padded ones."""

    def __init__(self, trainer: Any, merged: Pass | None) -> None:
        self._trainer, self._merged = trainer, merged
        self._padded = trainer._get_per_token_logps_and_entropies  # noqa: SLF001 - trl has no hooks
        trainer._get_per_token_logps_and_entropies = self._scored  # noqa: SLF001
        is_one_update = (
            trainer.args.steps_per_generation <= trainer.args.gradient_accumulation_steps
        )
        if is_one_update and _is_sum_over_rows(trainer):
            self._prepare = trainer._prepare_inputs  # noqa: SLF001
            trainer._prepare_inputs = self._in_order  # noqa: SLF001

    def _in_order(self, generation_batch: Any) -> Any:
        """Micro-batches of whole groups: one update sums over all, so their order is free."""
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

        def row(packed: Layout) -> tuple[Tensor, Tensor]:
            return _within(model, inner, lambda: self._row(inner, packed))

        together = len(input_ids) if torch.is_grad_enabled() else batch_size or len(input_ids)
        starts = range(0, len(input_ids), together)
        parts = [
            row(pack(input_ids[rows], attention_mask[rows], logits_to_keep))
            for rows in (slice(start, start + together) for start in starts)
        ]
        logprobs, entropies = (torch.cat(part) for part in zip(*parts, strict=True))
        return logprobs, entropies if compute_entropy else None, None

    def _row(self, model: Any, packed: Layout) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of each completion's tokens, (B, T) each."""
        base, trainer = base_model(model), self._trainer
        with trainer.accelerator.autocast():
            hidden_N_C = self._hidden_states(base, packed)
            logprobs_M, entropies_M = HeadLogProbs.apply(  # type: ignore[no-untyped-call]
                hidden_N_C[packed.reads],
                base.get_output_embeddings().weight,
                packed.labels,
                1 / trainer.temperature,
                1 + trainer._entropy_bonus_enabled,  # noqa: SLF001
            )
        is_token_B_T = packed.is_completion

        def in_rows(values_M: Tensor) -> Tensor:
            zeros_B_T = values_M.new_zeros(is_token_B_T.shape)
            return zeros_B_T.masked_scatter(is_token_B_T, values_M)

        return in_rows(logprobs_M), in_rows(entropies_M)

    def _hidden_states(self, base: Any, packed: Layout) -> Tensor:
        """After the last norm, (N, hidden)."""
        merged_N_C = None if self._merged is None else self._merged(packed)
        if merged_N_C is not None:
            return merged_N_C
        body, like = text_decoder(base), packed.tokens
        # else transformers would make a mask of N x N numbers; one of four axes it leaves alone
        mask: Any = like.new_zeros(1, 1, 0, 0)
        if type(body).__name__ in BY_KIND:
            mask = dict.fromkeys(set(body.config.layer_types))
        hidden_1_N_C: Tensor = body(
            input_ids=like[None],
            position_ids=packed.places[None],
            attention_mask=mask,
            use_cache=False,
            packed=packed,
        ).last_hidden_state
        return hidden_1_N_C[0]


def _within(
    model: Any, inner: Any, compute: Callable[[], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Compute in place of the forward pass, so that DDP around the model shares gradients."""
    if model is inner or not torch.is_grad_enabled():
        return compute()
    usual = inner.forward

    def forward(_: Tensor) -> tuple[Tensor, Tensor]:
        inner.forward = usual
        return compute()

    inner.forward = forward
    computed: tuple[Tensor, Tensor] = model(torch.empty(0))  # DDP moves what it is given
    return computed


def _is_sum_over_rows(trainer: Any) -> bool:
    """Whether it is all the same to the loss which completions share a micro-batch."""
    return (
        trainer.loss_type in OF_ALL + OF_ROWS
        and trainer.top_entropy_quantile == 1
        and not trainer._entropy_bonus_enabled  # noqa: SLF001 - trl has no hooks
    )


def _is_of(rows: int, value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == rows


def _as_drawn(batch: dict[str, Any]) -> dict[str, Any]:
    torch.randperm(len(batch["completion_ids"]))  # what is drawn next is what it would have been
    return batch
