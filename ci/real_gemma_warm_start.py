"""A short supervised training of the real Gemma in our reply form: all weights, reply tokens only.

What for: replies that end and have the form, so that gates and ladder have something to compare.
A few dozen steps on a CPU teach the form, not arithmetic.
"""

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.errors import UserError

BATCH, LEARNING_RATE, RAMP_STEPS = 2, 1e-4, 4
LONGEST = 320  # tokens of prompt and reply; longer rows are left out
IGNORED = -100  # cross_entropy's mark for a place without a target
CALCULATION = re.compile("<<[^>]*>>")  # GSM8K's notes to a calculator


def warm_start(base: Path, gsm8k: Path, out: Path, steps: int) -> None:
    """Train the base for some steps and write it to `out`.

    Args:
        base: the model's folder.
        gsm8k: GSM8K's `train.jsonl`, or its folder.
        out: an empty folder.
        steps: of `BATCH` rows each, taken in the file's order.

    Raises:
        UserError: there are no such rows, or fewer than the steps need.
    """
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    examples = read_examples(gsm8k, tokenizer, steps * BATCH)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    began = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / RAMP_STEPS)
        loss = loss_of(model, examples[step * BATCH : (step + 1) * BATCH])
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        told = f"warm start {step + 1}/{steps}  loss {loss.item():.3f}"
        print(f"{told}  {time.monotonic() - began:.0f} s", flush=True)
    model.bfloat16().save_pretrained(out)
    for path in base.iterdir():
        if not (out / path.name).exists():
            shutil.copyfile(path, out / path.name)


def read_examples(gsm8k: Path, tokenizer: Any, count: int) -> list[tuple[list[int], list[int]]]:
    """Token ids of prompts and of replies to learn, which end in `<end_of_turn>`."""
    path = gsm8k / "train.jsonl" if gsm8k.is_dir() else gsm8k
    if not path.is_file():
        raise UserError(f"--gsm8k: expected train.jsonl or its folder, found nothing at {path}")
    examples = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            working, gold = CALCULATION.sub("", row["answer"]).rsplit("####", 1)
            prompt = tokenizer.apply_chat_template(
                reply.messages(row["question"]), tokenize=False, add_generation_prompt=True
            )
            said = f"{reply.render(working, gold)}<end_of_turn>"
            ids = tokenizer([prompt, said], add_special_tokens=False)["input_ids"]
            if len(ids[0]) + len(ids[1]) <= LONGEST:
                examples.append((ids[0], ids[1]))
            if len(examples) == count:
                return examples
    raise UserError(f"{path}: {count} rows are needed for so many steps, it has {len(examples)}")


def loss_of(model: Any, examples: list[tuple[list[int], list[int]]]) -> Tensor:
    """Mean cross-entropy of the replies' tokens."""
    longest = max(len(prompt) + len(said) for prompt, said in examples)
    ids_B_T = torch.zeros(len(examples), longest, dtype=torch.long)
    seen_B_T, label_B_T = torch.zeros_like(ids_B_T), torch.full_like(ids_B_T, IGNORED)
    for row, (prompt, said) in enumerate(examples):
        length = len(prompt) + len(said)
        ids_B_T[row, :length] = torch.tensor(prompt + said)
        seen_B_T[row, :length] = 1
        label_B_T[row, len(prompt) : length] = torch.tensor(said)
    hidden_B_T_D = model.model(input_ids=ids_B_T, attention_mask=seen_B_T).last_hidden_state
    label_B_T = label_B_T[:, 1:]
    learned_B_T = label_B_T != IGNORED
    # the head is the largest product: only where something is learned
    logits = model.get_output_embeddings()(hidden_B_T_D[:, :-1][learned_B_T])
    return torch.nn.functional.cross_entropy(logits, label_B_T[learned_B_T])
