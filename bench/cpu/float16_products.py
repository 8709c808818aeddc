"""Is `model.float16_products` right on real weights: no overflow, float32's losses and gradients?

    python -m bench.cpu.float16_products MODEL --gsm8k FOLDER --out FILE

Problems of GSM8K's train.jsonl in our prompt, each with its solution as the reply.  Of every
reply's tokens: the log-probability, in float32 and with float16 factors (`--also` in bfloat16, in
float16 as a whole); of a random LoRA adapter: the gradient of the mean loss.  A tensor core sums
float16's products in float32, as is done here.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.shared.texts import Text, with_reply
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_run.files import write_json
from xmlgrpo_trainer.config.defaults import LORA_DEFAULTS
from xmlgrpo_trainer.model.float16_products import narrow_products


def main() -> int:
    """Measure and write the file."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path, help="a folder of bfloat16 weights")
    options.add_argument("--gsm8k", type=Path, required=True, help="folder with train.jsonl")
    options.add_argument("--count", type=int, default=8, help="problems that are read")
    options.add_argument("--also", nargs="*", default=[], choices=["bfloat16", "float16"])
    options.add_argument("--out", type=Path, required=True)
    asked = options.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    with (asked.gsm8k / "train.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in islice(lines, asked.count)]
    texts = [with_reply(tokenizer, row["question"], row["answer"]) for row in rows]
    found: dict[str, Any] = {"texts": len(texts), "tokens": sum(len(t) - n for t, n in texts)}
    exact, gradients, found["largest_in_stream"] = _learnt(asked.model, texts, torch.float32)
    for name in ("float16_products", *asked.also):
        narrow = name == "float16_products"
        number_type = torch.float32 if narrow else getattr(torch, name)
        logprobs, other, _ = _learnt(asked.model, texts, number_type, narrow=narrow)
        apart = (logprobs - exact).abs()
        found[name] = {
            "not_finite": int((~logprobs.isfinite()).sum()),
            "loss": -float(logprobs.mean()),
            "loss_float32": -float(exact.mean()),
            "token_mean": float(apart.mean()),
            "token_worst": float(apart.max()),
            "gradient_apart": float((other - gradients).norm() / gradients.norm()),
        }
        write_json(asked.out, found)
        print(name, json.dumps(found[name]), flush=True)
    return 0


def _learnt(
    folder: Path, texts: Sequence[Text], number_type: torch.dtype, *, narrow: bool = False
) -> tuple[Tensor, Tensor, float]:
    """Log-probabilities of the replies, the adapter's gradient, the residual stream's largest."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=number_type)
    if narrow:
        narrow_products(model)
    torch.manual_seed(0)
    settings: dict[str, Any] = {**LORA_DEFAULTS, "init_lora_weights": False}
    adapted = get_peft_model(model, LoraConfig(**settings, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.mul_(0.01)  # as after some steps
    logprobs, largest = [], 0.0
    for ids, asked in texts:
        output = adapted(input_ids=torch.tensor([ids]), output_hidden_states=True)
        logs = output.logits[0, asked - 1 : -1].float().log_softmax(-1)
        of_reply = logs.gather(1, torch.tensor(ids[asked:])[:, None])[:, 0]
        (-of_reply.mean() / len(texts)).backward()
        logprobs.append(of_reply.detach())
        largest = max(largest, *(float(h.detach().abs().max()) for h in output.hidden_states))
    gradients = [p.grad.flatten().float() for p in adapted.parameters() if p.grad is not None]
    return torch.cat(logprobs), torch.cat(gradients), largest


if __name__ == "__main__":
    run_command(main)
