"""Supervised training that leaves the tiny model two habits: working a problem out, and guessing.

Loss on the replies only.  Matrices are trained with Muon, the embedding and the norms with AdamW:
on this model that needs about half the steps of AdamW alone.

A few threads share each step.  A model this small is computed faster by two threads with a part of
the batch each than by one whose every product is cut in two.  The parts and the order in which
their gradients are added are fixed, so that the result does not depend on the machine's cores; and
since nothing else is random, a warm start that goes on from its kept state ends with the same bytes
as one that was never interrupted.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer
from transformers import Gemma3ForCausalLM

from xmlgrpo_rewards.console_script import interruption
from xmlgrpo_run.files import replacing
from xmlgrpo_run.stop_signals import StopSignals
from xmlgrpo_trainer.tiny.examples import Example
from xmlgrpo_trainer.tiny.muon import Muon
from xmlgrpo_trainer.tiny.settings import TinySettings

# (step, steps, mean loss of the last steps; None before the first one of this session)
OnProgress = Callable[[int, int, float | None], None]

RAMP_STEPS = 30
FLAT_SHARE = 0.5  # of the steps at the peak rates; then they fall in a line
LAST_RATE = 0.02  # of the peak rates, at the last step
MAX_GRAD_NORM = 1.0
BUCKET_BATCHES = 16  # batches of like length are cut from this many batches' worth of examples
PROGRESS_EVERY = 20
KEEP_EVERY = 100  # steps that a killed process loses at most
IGNORED = -100  # cross_entropy's mark for a place without a target


def train_on(
    model: Gemma3ForCausalLM,
    data: Sequence[Example],
    settings: TinySettings,
    seed: int,
    on_progress: OnProgress | None = None,
    *,
    kept: Path | None = None,
) -> float:
    """One pass over `data` in its order; examples of like length share a batch.

    Args:
        model: float32, changed in place.
        data: in the order of learning; a remainder smaller than a batch is left out.
        settings: examples per step, peak learning rates, and how many threads compute a part of
            every batch; the result depends on their number.
        seed: of the order of batches.
        on_progress: called before the first step, every few steps and at the last.
        kept: the file that keeps the state of an interrupted call; the caller removes it.

    Returns:
        The mean loss of the last steps.

    Raises:
        KeyboardInterrupt: a signal; the state is kept.
    """
    batch, threads = settings.warm_batch, settings.warm_threads
    steps = len(data) // batch
    optimizers = _optimizers(model, settings)
    done, losses = _restore(kept, model, optimizers) if kept else (0, [])
    batches = _batches(data, batch, random.Random(seed))  # noqa: S311 - no secret depends on it
    signals = StopSignals()
    model.train()
    with single_threads(threads) as pool, signals if kept else nullcontext():
        if on_progress:
            on_progress(done, steps, None)
        for step, chosen in enumerate(islice(batches, done, None), start=done + 1):
            _set_rates(optimizers, _rate(step, steps))
            loss = set_gradients(model, chosen, pool, threads)
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
            list(pool.map(lambda optimizer: optimizer.step(), optimizers))
            losses = [*losses[-PROGRESS_EVERY + 1 :], loss]
            if on_progress and (step % PROGRESS_EVERY == 0 or step == steps):
                on_progress(step, steps, _mean(losses))
            if kept and (step % KEEP_EVERY == 0 or signals.received):
                _keep(kept, model, optimizers, step, losses)
            if signals.received:
                raise interruption(
                    signals.received,
                    f"the warm start is kept up to step {step:,} of {steps:,}; run the same "
                    "command again to continue",
                )
    model.zero_grad()
    model.eval()
    return _mean(losses)


def set_gradients(
    model: Gemma3ForCausalLM, chosen: Sequence[Example], pool: ThreadPoolExecutor, parts: int
) -> float:
    """Give every weight the gradient of a batch's loss, each part computed by a thread.

    Returns:
        The loss: cross-entropy, the mean over the batch's reply tokens.
    """
    targets = sum(len(example.reply) for example in chosen)
    weights = list(model.parameters())

    def part(number: int) -> tuple[float, tuple[Tensor, ...]]:
        loss = _summed_loss(model, chosen[number::parts]) / targets
        return loss.item(), torch.autograd.grad(loss, weights)

    computed = list(pool.map(part, range(parts)))
    for weight, *gradients in zip(weights, *(grads for _, grads in computed), strict=True):
        weight.grad = sum(gradients[1:], start=gradients[0])
    return sum(loss for loss, _ in computed)


def _summed_loss(model: Gemma3ForCausalLM, chosen: Sequence[Example]) -> Tensor:
    """Cross-entropy, summed over reply tokens; the output layer runs only where one is learned."""
    inputs_B_T, targets_B_T = _collate(chosen)
    hidden_B_T_C = model.model(input_ids=inputs_B_T, use_cache=False).last_hidden_state
    has_target_B_T = targets_B_T != IGNORED
    return torch.nn.functional.cross_entropy(
        model.lm_head(hidden_B_T_C[has_target_B_T]), targets_B_T[has_target_B_T], reduction="sum"
    )


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


def _batches(data: Sequence[Example], batch: int, rng: random.Random) -> Iterator[list[Example]]:
    window = batch * BUCKET_BATCHES
    for start in range(0, len(data), window):
        bucket = sorted(data[start : start + window], key=lambda e: len(e.prompt) + len(e.reply))
        cuts = [bucket[i : i + batch] for i in range(0, len(bucket) - batch + 1, batch)]
        rng.shuffle(cuts)
        yield from cuts


@contextmanager
def single_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads in which torch computes alone; its number of threads is restored."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def _optimizers(model: Gemma3ForCausalLM, settings: TinySettings) -> list[Optimizer]:
    """Muon for the matrices, in as many parts as threads, and AdamW for the rest."""
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embed" not in name
        (matrices if is_matrix else rest).append(parameter)
    threads = settings.warm_threads
    parts = [matrices[number::threads] for number in range(threads)]
    adamw = torch.optim.AdamW(
        rest, lr=settings.adamw_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    return [*(Muon(part, lr=settings.muon_lr) for part in parts), adamw]


def _set_rates(optimizers: Sequence[Optimizer], rate: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * rate


def _rate(step: int, steps: int) -> float:
    """The learning rate of a step as a share of its peak: ramp, flat, straight down."""
    left = (steps - step) / steps
    fall = max(LAST_RATE, left / (1 - FLAT_SHARE))
    return min(1.0, step / RAMP_STEPS, fall)


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / max(1, len(losses))


def _keep(
    path: Path,
    model: Gemma3ForCausalLM,
    optimizers: Sequence[Optimizer],
    step: int,
    losses: Sequence[float],
) -> None:
    """Write the state after a step: weights, the optimisers' means, the latest losses."""
    tensors = {f"weight/{name}": weight.data for name, weight in model.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"state/{number}/{index}/{key}": state[key] for key in state}
    tensors |= {"step": torch.tensor(step), "losses": torch.tensor(losses, dtype=torch.float64)}
    with replacing(path) as partial:
        save_file(tensors, partial)


def _restore(
    path: Path, model: Gemma3ForCausalLM, optimizers: Sequence[Optimizer]
) -> tuple[int, list[float]]:
    """Put a kept state back; the step after which it was kept, 0 where nothing can be read."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError):
        return 0, []
    for name, weight in model.named_parameters():
        weight.data.copy_(tensors[f"weight/{name}"])
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for name, tensor in tensors.items():
        if name.startswith("state/"):
            _, number, index, key = name.split("/")
            states[int(number)].setdefault(int(index), {})[key] = tensor
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(tensors["step"]), tensors["losses"].tolist()
