"""Supervised training of all weights on worked solutions, in the form that a reply must have.

    python -m recipes.gsm8k.weights.warm_start MODEL OUT --rows A.jsonl B.jsonl --lr 1e-4

The rate falls to a tenth along a cosine, by the steps or by the clock, whichever is further on; so
both `--epochs` and `--seconds` end with a low rate.  `--keep 0.5` keeps the model of half-way as
`OUT-50`.  `warm-start.json` is written last.
"""

import argparse
import copy
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recipes.gsm8k.data.rows import load
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import render
from xmlgrpo_rewards.task import get_task
from xmlgrpo_run.files import write_json
from xmlgrpo_trainer.problems.prompts import encode_prompts

DONE = "warm-start.json"
TURN_END = "<end_of_turn>"
RISING_STEPS = 20
LEAST_RATE = 0.1  # of the highest, at the end
TOLD_EVERY = 20  # steps
LENGTHS = 32  # rows are padded to multiples: some kernels of torch err one token beyond them
UNSEEN = -100  # a label that cross entropy passes over

Pair = tuple[list[int], list[int]]  # the ids of a prompt and of its reply


def main() -> int:
    """Train, save, and note how it went."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--rows", type=Path, nargs="+", required=True)
    options.add_argument("--lr", type=float, required=True)
    options.add_argument("--epochs", type=float, default=math.inf)
    options.add_argument("--seconds", type=float, default=math.inf)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--micro", type=int, default=64, help="rows in one pass")
    options.add_argument("--keep", type=float, nargs="*", default=[], help="shares of the way")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--device", default="cuda")
    asked = options.parse_args()
    if math.isinf(asked.epochs) and math.isinf(asked.seconds):
        raise UserError("expected an end, got neither --epochs nor --seconds; give one of them")
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - after --help

    torch.manual_seed(asked.seed)
    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    model = AutoModelForCausalLM.from_pretrained(
        asked.model, dtype=torch.float32, use_safetensors=True
    )
    model.to(asked.device)
    pairs = encode(tokenizer, [row for path in asked.rows for row in load(path)])
    print(
        f"{len(pairs)} rows; the first: {tokenizer.decode(pairs[0][0] + pairs[0][1])}", flush=True
    )
    settings = {name: str(value) for name, value in vars(asked).items() if name != "rows"}
    files = [path.name for path in asked.rows]
    told: dict[str, Any] = {**settings, "rows": files, "of": len(pairs)}

    def keep(folder: Path, curve: list[dict[str, float]]) -> None:
        copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_json(folder / DONE, {**told, "curve": curve})

    curve = train(
        model,
        batches(pairs, asked.batch, random.Random(asked.seed)),  # noqa: S311 - no secret
        steps=asked.epochs * len(pairs) / asked.batch,
        seconds=asked.seconds,
        rate=asked.lr,
        micro=asked.micro,
        keep=[(share, partial(keep, kept_at(asked.out, share))) for share in sorted(asked.keep)],
    )
    keep(asked.out, curve)
    return 0


def kept_at(out: Path, share: float) -> Path:
    """The folder of the model after this share of the way."""
    return out.with_name(f"{out.name}-{round(100 * share)}")


def encode(tokenizer: Any, rows: Sequence[dict[str, Any]]) -> list[Pair]:
    """Prompts and replies, as a run asks and pays for them."""
    task = get_task("gsm8k")
    examples = [task.example(row, f"row {number}") for number, row in enumerate(rows)]
    prompts = encode_prompts(tokenizer, [task.messages(example.question) for example in examples])
    replies = [render(example.solution, example.gold) + TURN_END for example in examples]
    encoded = tokenizer(replies, add_special_tokens=False)["input_ids"]
    return list(zip(prompts, encoded, strict=True))


def batches(pairs: Sequence[Pair], size: int, rng: random.Random) -> Iterator[list[Pair]]:
    """Batches without end; every row comes once before one comes again."""
    order: list[int] = []
    while True:
        while len(order) < size:
            order += rng.sample(range(len(pairs)), len(pairs))
        yield [pairs[number] for number in order[:size]]
        del order[:size]


def train(
    model: Any,
    source: Iterator[list[Pair]],
    *,
    steps: float,
    seconds: float,
    rate: float,
    micro: int,
    keep: Sequence[tuple[float, Callable[[list[dict[str, float]]], None]]] = (),
) -> list[dict[str, float]]:
    """Train until the steps or the seconds are over; a point of the curve every few steps.

    Args:
        model: its weights are changed.
        source: of batches.
        steps, seconds: whichever is over first ends it.
        rate: the highest.
        micro: rows in one pass.
        keep: what to call with the curve after these shares of the way, the smallest first.
    """
    on_gpu = model.device.type == "cuda"
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=on_gpu
    )
    model.train()
    curve: list[dict[str, float]] = []
    began, step, to_keep = time.monotonic(), 0, list(keep)
    while (done := max(step / steps, (time.monotonic() - began) / seconds)) < 1:
        if to_keep and done >= to_keep[0][0]:
            to_keep.pop(0)[1]([*curve, {"step": step, "seconds": round(time.monotonic() - began)}])
        for group in optimizer.param_groups:
            group["lr"] = rate * share(step, done)
        loss = learn_from(model, next(source), micro)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % TOLD_EVERY == 1 or not on_gpu:
            point = {"step": step, "loss": round(loss.item(), 4)}
            point["seconds"] = round(time.monotonic() - began, 1)
            curve.append(point)
            print(point, flush=True)
    curve.append({"step": step, "seconds": round(time.monotonic() - began, 1)})
    return curve


def share(step: int, done: float) -> float:
    """Of the highest rate: rising over the first steps, then along a cosine."""
    falling = LEAST_RATE + (1 - LEAST_RATE) * (1 + math.cos(math.pi * done)) / 2
    return min(1.0, (step + 1) / RISING_STEPS) * falling


def learn_from(model: Any, batch: list[Pair], micro: int) -> Tensor:
    """Add the gradients of a batch's mean loss over its reply tokens; the loss."""
    batch = sorted(batch, key=lambda pair: len(pair[0]) + len(pair[1]))
    count = sum(len(reply) for _, reply in batch)
    total = torch.zeros((), device=model.device)
    for start in range(0, len(batch), micro):
        loss = summed_loss(model, batch[start : start + micro]) / count
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own gap
        total += loss.detach()
    return total


def summed_loss(model: Any, pairs: Sequence[Pair]) -> Tensor:
    """Cross entropy summed over the tokens of the replies."""
    longest = max(len(prompt) + len(reply) for prompt, reply in pairs)
    shape = (len(pairs), -(-longest // LENGTHS) * LENGTHS)
    ids_B_T, seen_B_T = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels_B_T = torch.full(shape, UNSEEN)
    for number, (prompt, reply) in enumerate(pairs):
        end = len(prompt) + len(reply)
        ids_B_T[number, :end] = torch.tensor(prompt + reply)
        seen_B_T[number, :end] = 1
        labels_B_T[number, len(prompt) : end] = torch.tensor(reply)
    device = model.device
    targets_B_T = labels_B_T[:, 1:].to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        hidden_B_T_C = model.model(
            input_ids=ids_B_T.to(device), attention_mask=seen_B_T.to(device), use_cache=False
        ).last_hidden_state[:, :-1]
        is_reply_B_T = targets_B_T != UNSEEN
        logits_N_V = model.get_output_embeddings()(hidden_B_T_C[is_reply_B_T])
    return torch.nn.functional.cross_entropy(
        logits_N_V.float(), targets_B_T[is_reply_B_T], reduction="sum"
    )


if __name__ == "__main__":
    run_command(main)
