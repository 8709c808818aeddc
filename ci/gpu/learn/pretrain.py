"""Pretraining against the clock: how far it got is told, how long it takes is fixed.

First mostly worked answers, so that the model learns to reason; in the last part, at falling
learning rates, mostly blurted ones, so that blurting is what it does by itself.  Loss on the
replies only.  On a GPU the model computes in bfloat16 and the optimisers hold the weights in
float32; matrices are trained with Muon (https://kellerjordan.github.io/posts/muon/), the embedding
and the norms with AdamW, as in the embedded default's warm start.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name in torch's own documentation
from corpus import Batch, Corpus
from torch import Tensor, nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm

from xmlgrpo_rewards.errors import UserError

RAMP_SHARE = 0.03  # of the time: the learning rates rise ...
FLAT_UNTIL = 0.5  # ... stay at their peaks, and fall in a line to ...
LAST_RATE = 0.02
HABIT_FROM = 0.8  # of the time: from here on mostly blurted answers
MUON_LR, ADAMW_LR = 0.02, 3e-3
MAX_GRAD_NORM = 1.0
LOOK_EVERY = 20  # steps between two readings of the loss: each waits for the GPU

OnProgress = Callable[[dict[str, float]], None]


@dataclass(slots=True)
class Clock:
    """How much of the time is gone, from the first call of `share` on."""

    seconds: float
    now: Callable[[], float]
    started: float | None = field(default=None, init=False)

    def share(self) -> float:
        """From 0 to 1 and beyond."""
        if self.started is None:
            self.started = self.now()
        return (self.now() - self.started) / self.seconds


def rate(share: float) -> float:
    """The learning rate as a share of its peak, when `share` of the time is gone."""
    fall = (1 - share) / (1 - FLAT_UNTIL)
    return max(LAST_RATE, min(1.0, share / RAMP_SHARE, fall))


class Weights:
    """The model's weights in its own number type, and in float32 for the optimisers."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self.used = list(model.parameters())
        names = [name for name, _ in model.named_parameters()]
        if dtype == torch.float32:
            self.masters = self.used
        else:
            self.masters = [nn.Parameter(weight.detach().clone()) for weight in self.used]
            for weight in self.used:  # not model.to: rotary frequencies stay in float32
                weight.data = weight.data.to(dtype)
        pairs = list(zip(names, self.masters, strict=True))
        matrices = [w for name, w in pairs if w.ndim == 2 and "embed" not in name]
        rest = [w for name, w in pairs if w.ndim != 2 or "embed" in name]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices, lr=MUON_LR, weight_decay=0.0, momentum=0.95, adjust_lr_fn="original"
            ),
            torch.optim.AdamW(rest, lr=ADAMW_LR, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]

    def step(self, rate_now: float) -> None:
        """Take the gradients over, clip them, step, and hand the weights back."""
        is_copy = self.masters is not self.used
        if is_copy:
            for master, used in zip(self.masters, self.used, strict=True):
                master.grad = None if used.grad is None else used.grad.float()
                used.grad = None
        nn.utils.clip_grad_norm_(self.masters, MAX_GRAD_NORM)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * rate_now
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if is_copy:
            with torch.no_grad():
                for master, used in zip(self.masters, self.used, strict=True):
                    used.copy_(master)


def pretrain(
    model: Any,
    corpus: Corpus,
    *,
    seconds: float,
    habit_worked: float,
    dtype: torch.dtype,
    on_progress: OnProgress,
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Train until the time is over; leave the model in float32.

    Args:
        model: a float32 `Gemma3ForCausalLM` on its device, changed in place.
        corpus: its mixture is changed once, when blurting becomes the habit.
        seconds: from the first batch on.
        habit_worked: the share of worked answers from then on.
        dtype: what the model computes in.
        on_progress: gets the loss, steps, tokens and seconds so far every few steps.
        now: the clock, in seconds.

    Returns:
        Steps, tokens seen, the share of padding, seconds, the last loss.

    Raises:
        UserError: the loss is not finite.
    """
    device = next(model.parameters()).device
    weights = Weights(model, dtype)
    for module in model.modules():
        if isinstance(module, Gemma3RMSNorm):
            # two kernels in place of nine: the norms would be most of an eager step
            module.forward = partial(fused_norm, module)
    model.train()
    clock = Clock(seconds, now)
    batches: Iterator[Batch] = iter(corpus)
    told: dict[str, float] = {}
    steps = tokens = places = 0
    losses: list[Tensor] = []
    batch = next(batches)
    while (share := clock.share()) < 1:
        if share >= HABIT_FROM and corpus.mixture.worked != habit_worked:
            corpus.mixture = corpus.mixture._replace(worked=habit_worked)
        loss = reply_loss(model, batch, device)
        torch.autograd.backward(loss)
        weights.step(rate(share))
        losses.append(loss.detach())
        steps, tokens, places = (
            steps + 1,
            tokens + int(batch.ends_B.sum()),
            places + batch.ids_B_T.size,
        )
        batch = next(batches)
        if len(losses) == LOOK_EVERY or clock.share() >= 1:
            mean = torch.stack(losses).mean().item()
            losses = []
            told = {
                "step": steps,
                "loss": round(mean, 4),
                "seconds": round(clock.share() * seconds, 1),
                "tokens": tokens,
                "padding": round(1 - tokens / places, 4),
                "worked": corpus.mixture.worked,
            }
            on_progress(told)
            if not torch.isfinite(torch.tensor(mean)):
                raise UserError(f"pretraining: the loss is {mean} at step {steps}; lower the rates")
    for master, used in zip(weights.masters, weights.used, strict=True):
        used.data = master.data
    for module in model.modules():
        if isinstance(module, Gemma3RMSNorm):
            del module.forward
    model.eval()
    return told


def fused_norm(module: Gemma3RMSNorm, hidden: Tensor) -> Tensor:
    """What `Gemma3RMSNorm.forward` computes, in two kernels of torch's.

    One could do it, but 1 + weight would be rounded to the weight's own number type.
    """
    normed = F.rms_norm(hidden, module.weight.shape, None, module.eps)
    return torch.addcmul(normed, normed, module.weight)


def reply_loss(model: Any, batch: Batch, device: torch.device) -> Tensor:
    """Mean cross-entropy over the replies' tokens; the output layer runs only on those."""
    ids_B_T = torch.from_numpy(batch.ids_B_T).to(device, torch.long, non_blocking=True)
    prompts_B = torch.from_numpy(batch.prompts_B).to(device, non_blocking=True)
    ends_B = torch.from_numpy(batch.ends_B).to(device, non_blocking=True)
    places_T = torch.arange(ids_B_T.shape[1], device=device)
    # the place before a reply's token predicts it
    asked_B_T = (places_T >= prompts_B[:, None] - 1) & (places_T < ends_B[:, None] - 1)
    hidden_B_T_C = model.model(input_ids=ids_B_T, use_cache=False).last_hidden_state
    logits_N_V = model.lm_head(hidden_B_T_C[asked_B_T])
    targets_N = ids_B_T.roll(-1, dims=1)[asked_B_T]
    return F.cross_entropy(logits_N_V.float(), targets_N)
