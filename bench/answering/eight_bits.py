"""How far are draws with weights in 8 bits from the policy, beside draws with weights in 16?

    python -m bench.answering.eight_bits MODEL --gsm8k FOLDER --out FILE

Policy: transformers and peft, a random LoRA adapter apart.  Engines: the `graph` engine's CPU form,
with the adapter merged into bfloat16, and into 8 bits.  Each draws completions of GSM8K's problems
at temperature 1; of what it drew, its own log-probabilities are set beside the policy's.  The two
engines' greedy completions are compared word for word.  All else is computed in `--dtype`: in
float32 the weights' rounding is seen alone, and a CPU is twenty times faster.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.shared.random_model import adapted
from bench.shared.texts import first_rows, with_reply
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rollout.cpu.engine import StaticEngine
from xmlgrpo_rollout.engine import Completion, Sampling
from xmlgrpo_rollout.int8 import full
from xmlgrpo_rollout.stop_tokens import stop_ids
from xmlgrpo_rollout.weights import DecoderWeights, LayerWeights, float32_product, read_weights
from xmlgrpo_run.files import write_json

CAP = 3.0  # trl's: a completion whose ratio is above it is left out
LARGEST_FLOAT8 = 448.0


def main() -> int:
    """Measure and write the file."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path, help="a folder of bfloat16 weights")
    options.add_argument("--gsm8k", type=Path, required=True, help="folder with train.jsonl")
    options.add_argument("--count", type=int, default=32, help="problems that are asked")
    options.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    options.add_argument("--tokens", type=int, default=96, help="the longest completion")
    options.add_argument("--out", type=Path, required=True)
    asked = options.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    rows = first_rows(asked.gsm8k / "train.jsonl", asked.count)
    prompts = [with_reply(tokenizer, row["question"], "")[0] for row in rows]
    base = AutoModelForCausalLM.from_pretrained(
        asked.model, dtype=getattr(torch, asked.dtype), use_safetensors=True
    )
    torch.manual_seed(0)
    model = adapted(base, has_learnt=True).eval().requires_grad_(requires_grad=False)
    stops, pad = stop_ids(model, tokenizer), tokenizer.pad_token_id
    engine = StaticEngine(model, stops, pad, int8=True)  # which tells log-probabilities
    weights = {"bfloat16": _in_16_bits(read_weights(model)), "int8": engine.weights}
    drawn, greedy = Sampling(asked.tokens, temperature=1.0), Sampling(asked.tokens, temperature=0.0)
    found: dict[str, Any] = {
        "dtype": asked.dtype,
        "weights_apart": _weights_apart(model),
        "engines": {},
    }
    replies: dict[str, list[Completion]] = {}
    with torch.no_grad():
        for name, engine.weights in weights.items():
            torch.manual_seed(0)
            completions = engine(prompts, 1, drawn)
            found["engines"][name] = _apart(completions, _scored(model, prompts, completions))
            write_json(asked.out, found)
            print(name, json.dumps(found["engines"][name]), flush=True)
        for name, engine.weights in weights.items():
            replies[name] = engine(prompts, 1, greedy)
    found["greedy"] = _agreement(replies["bfloat16"], replies["int8"])
    write_json(asked.out, found)
    print(json.dumps({name: found[name] for name in ("weights_apart", "greedy")}, indent=1))
    return 0


def _in_16_bits(weights: DecoderWeights) -> DecoderWeights:
    def layer(given: LayerWeights) -> LayerWeights:
        merged = {field: full(getattr(given, field)) for field in weights.recipe.projections}
        rounded: dict[str, Any] = {f: m.bfloat16().to(m.dtype) for f, m in merged.items()}
        return replace(given, **rounded)

    return replace(weights, layers=tuple(map(layer, weights.layers)))


def _weights_apart(model: Any) -> dict[str, float]:
    """Root mean square of what a number type rounds off the projections, over theirs."""
    off = dict.fromkeys(("int8", "float8"), 0.0)
    whole = 0.0
    for name, weight in model.get_base_model().named_parameters():
        if not name.endswith("_proj.base_layer.weight"):
            continue
        exact = weight.float()
        largest = exact.abs().amax(dim=1, keepdim=True)
        int8 = (exact / (largest / 127)).round() * (largest / 127)
        scale = largest / LARGEST_FLOAT8
        float8 = (exact / scale).to(torch.float8_e4m3fn).float() * scale
        whole += float(exact.square().sum())
        off["int8"] += float((int8 - exact).square().sum())
        off["float8"] += float((float8 - exact).square().sum())
    return {name: (square / whole) ** 0.5 for name, square in off.items()}


def _scored(
    model: Any, prompts: Sequence[Sequence[int]], completions: Sequence[Completion]
) -> list[Tensor]:
    """The policy's log-probability of every token."""
    inner, scored = model.get_base_model(), []
    for prompt, completion in zip(prompts, completions, strict=True):
        text = torch.tensor([[*prompt, *completion.tokens]])
        hidden_N_C = inner.model(text).last_hidden_state[0, len(prompt) - 1 : -1]
        logs = float32_product(hidden_N_C, inner.lm_head.weight).log_softmax(-1)
        scored.append(logs.gather(1, text[0, len(prompt) :, None])[:, 0])
    return scored


def _apart(completions: Sequence[Completion], policy: Sequence[Tensor]) -> dict[str, Any]:
    differences = [
        ours - torch.tensor(completion.logprobs)
        for completion, ours in zip(completions, policy, strict=True)
    ]
    tokens = torch.cat(differences)
    sequences = torch.stack([difference.sum() for difference in differences])
    return {
        "completions": len(completions),
        "tokens": len(tokens),
        "difference": {"mean": float(tokens.abs().mean()), "worst": float(tokens.abs().max())},
        "token_ratio": _ratios(tokens),
        "completion_ratio": _ratios(sequences),
        "above_the_cap": float((sequences.exp() > CAP).float().mean()),
    }


def _ratios(logs: Tensor) -> dict[str, float]:
    ratios = logs.double().exp()
    size = ratios.sum().square() / ratios.square().sum() / len(ratios)
    return {"mean": float(ratios.mean()), "effective_share": float(size)}


def _agreement(one: Sequence[Completion], other: Sequence[Completion]) -> dict[str, float]:
    """Replies that are the same, and how many tokens agree before two part."""
    pairs = [(a.tokens, b.tokens) for a, b in zip(one, other, strict=True)]
    same = [
        next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
        for a, b in pairs
    ]
    parted = sum(a != b for a, b in pairs)
    return {"identical": len(pairs) - parted, "of": len(pairs), "agreed_tokens": sum(same)} | {
        "tokens_per_parting": sum(same) / max(1, parted)
    }


if __name__ == "__main__":
    run_command(main)
