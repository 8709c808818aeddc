"""How far the log-probabilities of the two halves are apart in bfloat16, by how logits are rounded.

    python -m bench.answering.two_halves MODEL ADAPTER --replies completions.jsonl --out FILE

Rollout: the `graph` engine's CPU form over merged weights, made to write the replies that are kept.
Training: transformers and peft, the adapter apart, log-probabilities by trl's chunked function.
Both once with logits rounded to bfloat16, as they were before, and once from float32 logits; beside
them the same model in float32 as a whole.  `by_rounding`: what the rounding alone moves in a half.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer import grpo_trainer

from bench.shared.texts import Text, kept_replies
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rollout.cpu import engine
from xmlgrpo_rollout.engine import Sampling
from xmlgrpo_run.files import write_json
from xmlgrpo_trainer.grpo.fast_step.float32_loss import ForTrl

ROUNDINGS = ("bfloat16", "float32")


def main() -> int:
    """Measure and write the file."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path, help="a folder of bfloat16 weights")
    options.add_argument("adapter", type=Path)
    options.add_argument("--replies", type=Path, required=True, help="a file of completions/")
    options.add_argument("--count", type=int, default=16, help="replies that are read")
    options.add_argument("--out", type=Path, required=True)
    asked = options.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    texts = kept_replies(tokenizer, asked.replies, asked.count)
    with torch.no_grad():
        model = _model(asked.model, asked.adapter, torch.float32)
        exact = _training(model, texts)["float32"]
        model = model.bfloat16()
        training, rollout = _training(model, texts), _rollout(model, tokenizer, texts)
    rows = [
        {
            "logits": rounding,
            "rollout_to_training": _apart(rollout[rounding], training[rounding]),
            "rollout_to_exact": _apart(rollout[rounding], exact),
            "training_to_exact": _apart(training[rounding], exact),
        }
        for rounding in ROUNDINGS
    ]
    by_rounding = {
        name: _apart(*(half[rounding] for rounding in ROUNDINGS))
        for name, half in (("rollout", rollout), ("training", training))
    }
    tokens = len(exact)
    write_json(
        asked.out,
        {"replies": len(texts), "tokens": tokens, "rows": rows, "by_rounding": by_rounding},
    )
    print(json.dumps([rows, by_rounding], indent=1))
    return 0


def _model(base: Path, adapter: Path, number_type: torch.dtype) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=number_type, use_safetensors=True)
    return PeftModel.from_pretrained(model, adapter).eval()


def _training(model: Any, texts: Sequence[Text]) -> dict[str, Tensor]:
    """Of every reply's tokens, by how the logits are rounded."""
    inner, own = model.get_base_model(), grpo_trainer._ChunkedLogProbFunction  # noqa: SLF001
    found: dict[str, list[Tensor]] = {rounding: [] for rounding in ROUNDINGS}
    for ids, asked in texts:
        hidden_N_C = inner.model(torch.tensor([ids])).last_hidden_state[0, asked - 1 : -1]
        labels_N = torch.tensor(ids[asked:])
        for rounding, function in zip(ROUNDINGS, (own, ForTrl(own)), strict=True):
            logprobs_N, _ = function.apply(
                hidden_N_C, inner.lm_head.weight, None, labels_N, 1.0, 8192, None, 1.0
            )
            found[rounding].append(logprobs_N)
    return {rounding: torch.cat(parts) for rounding, parts in found.items()}


def _rollout(model: Any, tokenizer: Any, texts: Sequence[Text]) -> dict[str, Tensor]:
    """The same under the engine."""
    found: dict[str, list[Tensor]] = {rounding: [] for rounding in ROUNDINGS}
    static = engine.StaticEngine(model, [], tokenizer.pad_token_id)  # nothing ends a reply early
    for ids, asked in texts:
        reply = ids[asked:]
        with _made_to_write(reply, found):
            static([ids[:asked]], 1, Sampling(len(reply), temperature=1.0))
    return {rounding: torch.cat(parts) for rounding, parts in found.items()}


@contextmanager
def _made_to_write(reply: Sequence[int], found: dict[str, list[Tensor]]) -> Iterator[None]:
    rest = iter(reply)

    def forced(logits_1_V: Tensor, _sampling: Sampling) -> Tensor:
        token_1 = torch.tensor([next(rest)])
        for rounding in ROUNDINGS:
            logits = logits_1_V.to(getattr(torch, rounding)).float()
            found[rounding].append(logits.log_softmax(-1)[:, token_1[0]])
        return token_1

    with patch.object(engine, "next_tokens", forced):
        yield


def _apart(one: Tensor, other: Tensor) -> dict[str, float]:
    distance = (one - other).abs()
    return {
        "mean": float(distance.mean()),
        "worst": float(distance.max()),
        "signed_mean": float((one - other).mean()),
    }


if __name__ == "__main__":
    run_command(main)
