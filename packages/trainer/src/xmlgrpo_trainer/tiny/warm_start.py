"""Supervised training that leaves the tiny model two habits: working a problem out, and guessing.

First mostly worked answers, so that the model can do the sums; then, at falling learning rates,
mostly guesses, so that guessing is what it does by itself.  Loss on the replies only.

Matrices are trained with Muon (https://kellerjordan.github.io/posts/muon/), the embedding and the
norms with AdamW; on this model that needs about half the steps of AdamW alone.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import Gemma3ForCausalLM, PreTrainedTokenizerBase

from xmlgrpo_rewards.reply import messages
from xmlgrpo_trainer.tiny.kept import Keeper, Reached, go_on
from xmlgrpo_trainer.tiny.muon import Muon
from xmlgrpo_trainer.tiny.replicas import PartOfLoss, Replicas, single_threads
from xmlgrpo_trainer.tiny.story import Row
from xmlgrpo_trainer.tiny.targets import target
from xmlgrpo_trainer.tiny.tokenizer import TURN_END

# (step, steps, mean loss of the last steps; None before the first one of this session)
OnProgress = Callable[[int, int, float | None], None]

RAMP_STEPS = 30
FLAT_SHARE = 0.5  # of the steps at the peak rates; then they fall in a line
LAST_RATE = 0.02  # of the peak rates, at the last step
MAX_GRAD_NORM = 1.0
BUCKET_BATCHES = 16  # batches of like length are cut from this many batches' worth of examples
PROGRESS_EVERY = 20
IGNORED = -100  # cross_entropy's mark for a place without a target


class Example(NamedTuple):
    """Token ids of a prompt and of the reply to be learned, which ends in `<end_of_turn>`."""

    prompt: list[int]
    reply: list[int]


class Mixture(NamedTuple):
    """Shares of the kinds of answer, drawn independently of each other."""

    worked: float
    tagged: float


def examples(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], mixture: Mixture, rng: random.Random
) -> list[Example]:
    """One answer to each problem, of a kind drawn from the mixture."""
    if not rows:  # a tokenizer cannot be given no text
        return []
    replies = [
        target(
            row["answer"],
            worked=rng.random() < mixture.worked,
            tagged=rng.random() < mixture.tagged,
        )
        for row in rows
    ]
    prompts = prompt_texts(tokenizer, [row["question"] for row in rows])
    tokenized = [
        tokenizer(texts, add_special_tokens=False)["input_ids"]
        for texts in (prompts, [reply + TURN_END for reply in replies])
    ]
    return [Example(prompt, reply) for prompt, reply in zip(*tokenized, strict=True)]


def prompt_texts(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> list[str]:
    """Every question as the chat template renders it.

    The template is rendered once: ten thousand renderings take as long as a hundred steps.
    """
    place = "\x00"
    rendered = tokenizer.apply_chat_template(
        messages(place), add_generation_prompt=True, tokenize=False
    )
    before, after = rendered.split(place)
    return [before + question + after for question in questions]


def train_on(
    model: Gemma3ForCausalLM,
    data: Sequence[Example],
    *,
    batch: int,
    threads: int,
    muon_lr: float,
    adamw_lr: float,
    seed: int,
    on_progress: OnProgress | None = None,
    keeper: Keeper | None = None,
) -> Reached:
    """One pass over `data` in its order; examples of like length share a batch.

    Args:
        model: float32, changed in place.
        data: in the order of learning; a remainder smaller than a batch is left out.
        batch: examples a step.
        threads: each computes a part of every batch.  The result depends on their number.
        muon_lr, adamw_lr: peak learning rates.
        seed: of the order inside a bucket.
        on_progress: called before the first step, every few steps and at the last.
        keeper: knows how far an interrupted call came, and keeps how far this one does.

    Returns:
        The last step, with the losses of the latest ones.
    """
    steps = len(data) // batch
    order = random.Random(seed)  # noqa: S311 - no secret depends on it
    model.train()
    with single_threads(threads) as pool, keeper or nullcontext():
        replicas = Replicas(model, pool, threads)
        optimizers = _optimizers(model, muon_lr, adamw_lr, threads)
        reached = go_on(keeper.path, model, optimizers) if keeper else Reached()
        if on_progress:
            on_progress(reached.step, steps, None)
        to_come = islice(_batches(data, batch, order), reached.step, None)
        for step, chosen in enumerate(to_come, start=reached.step + 1):
            _set_rates(optimizers, _rate(step, steps))
            loss = replicas.add_gradients(_loss(chosen, threads))
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
            replicas.step(optimizers)
            reached = Reached(step, (*reached.losses[-PROGRESS_EVERY + 1 :], loss))
            if on_progress and (step % PROGRESS_EVERY == 0 or step == steps):
                on_progress(step, steps, reached.loss)
            if keeper:
                keeper.after(reached, steps, model, optimizers)
    model.eval()
    return reached


def _optimizers(
    model: Gemma3ForCausalLM, muon_lr: float, adamw_lr: float, threads: int
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, in as many parts as threads, and AdamW for the rest."""
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embed" not in name
        (matrices if is_matrix else rest).append(parameter)
    parts = [matrices[number::threads] for number in range(threads)]
    optimizers: list[torch.optim.Optimizer] = [Muon(part, lr=muon_lr) for part in parts]
    adamw = torch.optim.AdamW(rest, lr=adamw_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return [*optimizers, adamw]


def _set_rates(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * rate


def _rate(step: int, steps: int) -> float:
    """The learning rate of a step as a share of its peak: ramp, flat, straight down."""
    left = (steps - step) / steps
    fall = max(LAST_RATE, left / (1 - FLAT_SHARE))
    return min(1.0, step / RAMP_STEPS, fall)


def _batches(data: Sequence[Example], batch: int, rng: random.Random) -> Iterator[list[Example]]:
    window = batch * BUCKET_BATCHES
    for start in range(0, len(data), window):
        bucket = sorted(data[start : start + window], key=lambda e: len(e.prompt) + len(e.reply))
        cuts = [bucket[i : i + batch] for i in range(0, len(bucket) - batch + 1, batch)]
        rng.shuffle(cuts)
        yield from cuts


def _collate(chosen: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Ids and next-token targets, padded on the right: causal attention needs no mask then."""
    length = max(len(example.prompt) + len(example.reply) for example in chosen)
    inputs_B_T = torch.zeros(len(chosen), length, dtype=torch.long)
    targets_B_T = torch.full((len(chosen), length), IGNORED)
    for row, (prompt, reply) in enumerate(chosen):
        end = len(prompt) + len(reply)
        inputs_B_T[row, :end] = torch.tensor(prompt + reply)
        targets_B_T[row, len(prompt) - 1 : end - 1] = torch.tensor(reply)
    return inputs_B_T, targets_B_T


def _loss(chosen: Sequence[Example], parts: int) -> PartOfLoss:
    """Cross-entropy over a batch's reply tokens; each replica computes some of its rows.

    The output layer runs only where there is a target.
    """
    targets = sum(len(example.reply) for example in chosen)

    def part_of_loss(model: Gemma3ForCausalLM, number: int) -> Tensor:
        inputs_B_T, targets_B_T = _collate(chosen[number::parts])
        hidden_B_T_C = model.model(input_ids=inputs_B_T, use_cache=False).last_hidden_state
        has_target_B_T = targets_B_T != IGNORED
        summed = torch.nn.functional.cross_entropy(
            model.lm_head(hidden_B_T_C[has_target_B_T]),
            targets_B_T[has_target_B_T],
            reduction="sum",
        )
        return summed / targets

    return part_of_loss
