"""Is `model.float16_products` right on real weights: no overflow, float32's losses and gradients?

    python -m bench.cpu.float16_products MODEL --gsm8k FOLDER --out FILE

Problems of GSM8K's train.jsonl in our prompt, each with its solution as the reply.  Of every
reply's tokens: the log-probability, in float32 and with float16 factors; of a random LoRA adapter:
the gradient of the mean loss.  A tensor core sums float16's products in float32, as is done here.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.shared.random_model import adapted
from bench.shared.texts import Text, first_rows, with_reply
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_run.files import write_json
from xmlgrpo_trainer.model.float16_products import narrow_products


def main() -> int:
    """Measure and write the file."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path, help="a folder of bfloat16 weights")
    options.add_argument("--gsm8k", type=Path, required=True, help="folder with train.jsonl")
    options.add_argument("--count", type=int, default=8, help="problems that are read")
    options.add_argument("--out", type=Path, required=True)
    asked = options.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    rows = first_rows(asked.gsm8k / "train.jsonl", asked.count)
    texts = [with_reply(tokenizer, row["question"], row["answer"]) for row in rows]
    exact, gradients, largest = _learnt(asked.model, texts, narrow=False)
    logprobs, other, _ = _learnt(asked.model, texts, narrow=True)
    apart = (logprobs - exact).abs()
    found = {
        "texts": len(texts),
        "tokens": sum(len(ids) - asked for ids, asked in texts),
        "largest_in_stream": largest,
        "float16_products": {
            "not_finite": int((~logprobs.isfinite()).sum()),
            "loss": -float(logprobs.mean()),
            "loss_float32": -float(exact.mean()),
            "token_mean": float(apart.mean()),
            "token_worst": float(apart.max()),
            "gradient_apart": float((other - gradients).norm() / gradients.norm()),
        },
    }
    write_json(asked.out, found)
    print(json.dumps(found))
    return 0


def _learnt(folder: Path, texts: Sequence[Text], *, narrow: bool) -> tuple[Tensor, Tensor, float]:
    """Log-probabilities of the replies, the adapter's gradient, the residual stream's largest."""
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    if narrow:
        narrow_products(base)
    torch.manual_seed(0)
    model = adapted(base, has_learnt=True)
    logprobs, largest = [], 0.0
    for ids, asked in texts:
        output = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        logs = output.logits[0, asked - 1 : -1].float().log_softmax(-1)
        of_reply = logs.gather(1, torch.tensor(ids[asked:])[:, None])[:, 0]
        (-of_reply.mean() / len(texts)).backward()
        logprobs.append(of_reply.detach())
        largest = max(largest, *(float(h.detach().abs().max()) for h in output.hidden_states))
    gradients = [p.grad.flatten().float() for p in model.parameters() if p.grad is not None]
    return torch.cat(logprobs), torch.cat(gradients), largest


if __name__ == "__main__":
    run_command(main)
