"""How far an engine's draws are from the policy: weighed in the loss, logged, and at no extra pass.

An engine that computes in 16 bits with merged weights draws from a distribution that is not quite
the policy's.  trl corrects that for vLLM by truncated importance sampling (`grpo_trainer.py`,
`_generate_and_score_completions`, trl 1.14.2), behind the switch `use_vllm`, and logs it as
`sampling/*`; the same is wanted for any engine.  How is `grpo.vllm_importance_sampling_mode`: trl's
default, `sequence_mask`, leaves out a completion whose whole ratio is above 3, which long
completions meet more often; `token_truncate` cuts each token's ratio instead.

trl takes the policy's log-probabilities for it from a forward pass of their own.  Where a batch is
used for one update only, the loss computes the same numbers a moment later, from the same weights:
then the ratios are made there (`LateRatios`), and that pass, a tenth of a step, is not done.
"""

import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from xmlgrpo_rollout.engine import Engine
from xmlgrpo_trainer.grpo.late_numbers import bound
from xmlgrpo_trainer.grpo.lost_batches import (
    COUNT,
    DIFFERENCE,
    DISCARDED,
    IMPOSSIBLE_FIRST,
    IMPOSSIBLE_NATS,
    NO_WEIGHT,
    RATIO,
)


def correct_mismatch(trainer: Any, engine: Engine, *, is_trls_own: bool) -> None:
    """Have trl weigh and log the mismatch of `engine`, unless the configuration says not to.

    With it trl asks for fresh weights before a rollout, which the engine answers.

    Args:
        trainer: trl's `GRPOTrainer`; changed in place.
        engine: draws its completions, and gives each token's log-probability.
        is_trls_own: the trainer's class is trl's, and not one that Unsloth wrote in its place.
    """
    if not trainer.vllm_importance_sampling_correction:
        return
    trainer.use_vllm = True
    # the one call of trl's vLLM client that is made when another function draws
    trainer.vllm_generation = SimpleNamespace(sync_weights=engine.refresh)
    trainer._last_loaded_step = -1  # noqa: SLF001 - set by trl itself where use_vllm is given
    uses = trainer.args.steps_per_generation * trainer.args.num_iterations
    # then the policy is still the one that drew the completions when it learns from them
    is_used_once = trainer.args.gradient_accumulation_steps % uses == 0
    if is_trls_own and is_used_once:
        LateRatios(trainer)


class LateRatios:
    """Puts the ratios into a micro-batch when its loss has computed the log-probabilities.

    Until then a batch carries ones: the pass that trl asks for answers "not known", which trl takes
    as no correction.  Three methods of trl's trainer are replaced.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._asked_for_old = False
        self._inputs: dict[str, Any] | None = None
        self._generate = trainer._generate_and_score_completions  # noqa: SLF001 - trl has no hooks
        self._logprobs = trainer._get_per_token_logps_and_entropies  # noqa: SLF001
        self._loss = trainer._compute_loss  # noqa: SLF001
        trainer._generate_and_score_completions = self._generated  # noqa: SLF001
        trainer._get_per_token_logps_and_entropies = self._scored  # noqa: SLF001
        trainer._compute_loss = self._learnt  # noqa: SLF001

    def _generated(self, inputs: Any) -> dict[str, Any]:
        self._asked_for_old = True
        batch: dict[str, Any] = self._generate(inputs)
        del batch["old_per_token_logps"]  # the loss then takes its own, as without an engine
        for name, values in self._metrics().items():
            if name.startswith("sampling/"):
                values.pop()  # what trl has just made of "not known"
        return batch

    def _scored(self, model: Any, input_ids: Tensor, *arguments: Any, **named: Any) -> Any:
        if self._asked_for_old:
            self._asked_for_old = False
            logits_to_keep = arguments[1]
            unknown = input_ids.new_full(
                (len(input_ids), logits_to_keep), torch.nan, dtype=torch.float32
            )
            return unknown, None, None
        computed = self._logprobs(model, input_ids, *arguments, **named)
        if self._inputs is not None:
            self._correct(self._inputs, computed[0].detach())
        return computed

    def _learnt(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._inputs = inputs
        try:
            loss: Tensor = self._loss(model, inputs)
        finally:
            self._inputs = None
        return loss

    def _correct(self, inputs: dict[str, Any], policy_B_T: Tensor) -> None:
        trainer = self._trainer
        mask_B_T = inputs["completion_mask"]
        difference_B_T = policy_B_T - inputs["sampling_per_token_logps"]
        ratio = importance_ratio(
            difference_B_T,
            mask_B_T,
            trainer.vllm_importance_sampling_mode,
            trainer.vllm_importance_sampling_clip_min,
            trainer.vllm_importance_sampling_clip_max,
        )
        inputs["importance_sampling_ratio"] = ratio
        is_token_B_T = mask_B_T.bool()
        known_B_T = is_token_B_T & difference_B_T.isfinite()
        # as trl counts them: a sequence's ratio once, however long it is
        per_sequence = trainer.vllm_importance_sampling_mode.startswith("sequence")
        counted = torch.ones_like(ratio, dtype=torch.bool) if per_sequence else is_token_B_T
        self._note(
            (difference_B_T.abs(), known_B_T),
            (ratio, counted),
            lost_shares(difference_B_T, ratio, mask_B_T, inputs.get(COUNT, len(mask_B_T))),
        )

    def _note(
        self, distances: tuple[Tensor, Tensor], ratios: tuple[Tensor, Tensor], shares: Tensor
    ) -> None:
        """Log what a micro-batch's tokens say, and those of the other processes.

        Args:
            distances, ratios: with which of them count.  No number is looked at before all are
                there: the GPU goes on meanwhile.
        """
        (distance, farthest), (ratio, highest) = _mean_and_most(*distances), _mean_and_most(*ratios)
        _, least = _mean_and_most(-ratios[0], ratios[1])
        are_all_masked = ~ratios[1].any()  # as where all were cut: then nothing differs
        ratio, highest = (of.masked_fill(are_all_masked, 1) for of in (ratio, highest))
        least = least.masked_fill(are_all_masked, -1)
        own = torch.stack([distance, ratio, *shares, farthest, highest, least])
        of_all = self._trainer.accelerator.gather(own[None])
        bounds = of_all[:, 4:].amax(dim=0) * of_all.new_tensor([1, 1, -1])
        told = torch.cat([of_all[:, :4].mean(dim=0), bounds]).cpu()
        *means, far, high, low = (number.item() for number in told.unbind())
        metrics = self._metrics()
        names = (f"{DIFFERENCE}/mean", f"{RATIO}/mean", DISCARDED, IMPOSSIBLE_FIRST)
        for name, mean in zip(names, means, strict=True):
            metrics[name].append(mean)
        # bounds of all micro-batches so far: trl logs the mean of a list
        for name, pick, value in (
            (f"{DIFFERENCE}/max", max, far),
            (f"{RATIO}/max", max, high),
            (f"{RATIO}/min", min, low),
        ):
            metrics[name] = [bound([*metrics[name], value], pick)]

    def _metrics(self) -> Any:
        """Lists by name, emptied when they are logged."""
        return self._trainer._metrics["train"]  # noqa: SLF001


def _mean_and_most(values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Of the values that count; 0 where none does."""
    mean = values.masked_fill(~counts, 0).sum() / counts.sum().clamp(min=1)
    most = values.masked_fill(~counts, -math.inf).amax()
    return mean, most.masked_fill(~counts.any(), 0)


def lost_shares(
    difference_B_T: Tensor, ratio: Tensor, mask_B_T: Tensor, completions: int
) -> Tensor:
    """What a batch loses where engine and policy disagree; the arguments are `importance_ratio`'s.

    Args:
        ratio: its result, (B, 1) or (B, T).
        completions: how many there were before those without an advantage were left out: one of
            the eight that are left of 64 is no eighth of a batch.

    Returns:
        Two shares of the completions: whose tokens all weigh nothing, and whose first token the
        policy finds impossible.  One without tokens, as trl masks cut ones, is neither.
    """
    is_token_B_T = mask_B_T.bool()
    weight_B_T = ratio.expand_as(difference_B_T)
    weighs_B = ((weight_B_T >= NO_WEIGHT) & is_token_B_T).any(dim=-1)
    is_discarded_B = is_token_B_T.any(dim=-1) & ~weighs_B
    first_B = difference_B_T[:, 0].nan_to_num(nan=0.0) * mask_B_T[:, 0]
    lost = torch.stack([is_discarded_B, first_B < -IMPOSSIBLE_NATS])
    return lost.sum(dim=-1) / completions


def importance_ratio(
    difference_B_T: Tensor,
    mask_B_T: Tensor,
    mode: str,
    clip_min: float | None,
    clip_max: float | None,
) -> Tensor:
    """Policy over engine, as trl weighs it.

    Args:
        difference_B_T: log-probability under the policy less that under the engine.
        mask_B_T: 1 for a completion's tokens.
        mode: `sequence_` or `token_`, `mask` or `truncate`.
        clip_min, clip_max: a ratio outside is 0 (`mask`) or the bound (`truncate`).

    Returns:
        (B, 1) for a sequence's ratio, (B, T) for tokens'.
    """
    logs = torch.nan_to_num(difference_B_T * mask_B_T, nan=0.0)
    if mode.startswith("sequence"):
        logs = logs.sum(dim=-1, keepdim=True)
    ratio = logs.exp()
    inside = ratio.clamp(clip_min or 0.0, math.inf if clip_max is None else clip_max)
    return inside if mode.endswith("truncate") else ratio.masked_fill(ratio != inside, 0.0)
