"""How much of a small LoRA update reaches the replies, by how the engine puts it into 16 bits.

    python -m bench.answering.small_updates MODEL ADAPTER --replies completions.jsonl --out FILE

A real adapter's B is scaled until its mean entry is what ten steps of Adam at a rate can reach; its
A is kept.  Of the weights: the share of the update that arrives (what they changed by, projected on
the update) and the cosine of the two.  Of kept replies: how the log-probability of each token
changes, set beside the change by the exact adapter in float32.  Products are in float32; `bfloat16`
means that the output of every projection is rounded, as on a GPU.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.shared.texts import Text, kept_replies
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_run.files import write_json

Updates = Mapping[str, tuple[Tensor, Tensor]]  # module -> (scaling x B, A)
Way = Callable[[Tensor], Tensor]

RATES, STEPS = (5e-6, 5e-5, 1e-6), 10
EXACT = "float32 copy"
WAYS: Mapping[str, Way] = {
    "rounded": lambda exact: exact.bfloat16().float(),
    "stochastic": lambda exact: stochastic_bfloat16(exact, seed=0).float(),
    EXACT: lambda exact: exact,
}
APART = "adapter apart"


def stochastic_bfloat16(exact: Tensor, *, seed: int) -> Tensor:
    """Each weight rounded up as often as it is near to the upper neighbour: right in the mean.

    (Gupta et al. 2015, "Deep Learning with Limited Numerical Precision", arXiv 1502.02551, section
    3.)  With one seed the draws are the same at each call, so that equal weights stay equal.
    """
    drawn = torch.Generator(exact.device).manual_seed(seed)
    noise = torch.randint(1 << 16, exact.shape, generator=drawn, dtype=torch.int32)
    # bfloat16 is the upper half of float32's bits: what is carried into it rounds away from zero
    bits = noise.add_(exact.view(torch.int32)).bitwise_and_(-(1 << 16))
    return bits.view(torch.float32).bfloat16()


def main() -> int:
    """Measure and write the file."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path, help="a folder of bfloat16 weights")
    options.add_argument("adapter", type=Path)
    options.add_argument("--replies", type=Path, required=True, help="a file of completions/")
    options.add_argument("--count", type=int, default=4, help="replies that are read")
    options.add_argument("--out", type=Path, required=True)
    asked = options.parse_args()
    model = AutoModelForCausalLM.from_pretrained(
        asked.model, dtype=torch.float32, use_safetensors=True
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    texts = kept_replies(tokenizer, asked.replies, asked.count)
    updates = _updates(asked.adapter)
    with torch.no_grad():
        base = {rounds: _logprobs(model, texts, rounds=rounds) for rounds in (False, True)}
        measured = []
        for rate in RATES:
            scaled = _scaled(updates, rate * STEPS)
            measured += _measured(model, texts, base, scaled, rate)
            write_json(asked.out, {"steps": STEPS, "tokens": len(base[True]), "rows": measured})
    return 0


def _measured(
    model: Any,
    texts: list[Text],
    base: Mapping[bool, Tensor],
    updates: Updates,
    rate: float,
) -> list[dict[str, Any]]:
    layers = {name: model.get_submodule(name) for name in updates}
    with _merged(layers, updates, WAYS[EXACT]):
        exact = _logprobs(model, texts, rounds=False) - base[False]
    rows = []
    for way, put in WAYS.items():
        row = {"rate": rate, "way": way, **_arrival(layers, updates, put)}
        with _merged(layers, updates, put):
            for rounds, words in ((False, "float32"), (True, "bfloat16")):
                if way == EXACT and not rounds:
                    continue  # it is what the others are set beside
                change = _logprobs(model, texts, rounds=rounds) - base[rounds]
                row[words] = _beside(change, exact)
        rows.append(row)
        print(json.dumps(row), flush=True)
    change = _logprobs(model, texts, rounds=True, apart=updates) - base[True]
    rows.append({"rate": rate, "way": APART, "bfloat16": _beside(change, exact)})
    print(json.dumps(rows[-1]), flush=True)
    return rows


def _updates(adapter: Path) -> Updates:
    """An adapter's, in float32."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    scaling = config["lora_alpha"] / config["r"]
    weights = load_file(adapter / "adapter_model.safetensors")
    return {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): (
            scaling * weights[name.replace("lora_A", "lora_B")].float(),
            down.float(),
        )
        for name, down in weights.items()
        if name.endswith("lora_A.weight")
    }


def _scaled(updates: Updates, entry: float) -> Updates:
    """With B's mean absolute entry (before the scaling) as asked."""
    return {
        name: (up * (2 * entry / up.abs().mean()), down) for name, (up, down) in updates.items()
    }


def _arrival(layers: Mapping[str, Any], updates: Updates, put: Way) -> dict[str, float]:
    along = size = moved = 0.0
    for name, (up, down) in updates.items():
        weight, update = layers[name].weight, up @ down
        change = put(weight + update) - weight
        along += float((change * update).sum())
        size += float(update.square().sum())
        moved += float(change.square().sum())
    return {"arrives": along / size, "cosine": along / (size * moved) ** 0.5 if moved else 0.0}


def _beside(change: Tensor, exact: Tensor) -> dict[str, float]:
    both = torch.stack([change, exact])
    return {
        "slope": float((change * exact).sum() / exact.square().sum()),
        "correlation": float(torch.corrcoef(both)[0, 1]) if change.any() else 0.0,
        "mean_exact": float(exact.abs().mean()),
        "mean_error": float((change - exact).abs().mean()),
    }


@contextmanager
def _merged(layers: Mapping[str, Any], updates: Updates, put: Way) -> Iterator[None]:
    kept = {name: layer.weight.data for name, layer in layers.items()}
    for name, (up, down) in updates.items():
        layers[name].weight.data = put(kept[name] + up @ down)
    try:
        yield
    finally:
        for name, layer in layers.items():
            layer.weight.data = kept[name]


def _logprobs(
    model: Any, texts: list[Text], *, rounds: bool, apart: Updates | None = None
) -> Tensor:
    """Of every token of the replies."""

    def hook(name: str) -> Callable[..., Tensor]:
        def rounded(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            output = output.bfloat16()
            if apart and name in apart:
                up, down = apart[name]
                inner = nn.functional.linear(inputs[0], down).bfloat16().float()
                output = output + nn.functional.linear(inner, up).bfloat16()
            return output.float()

        return rounded

    projections = [(n, m) for n, m in model.named_modules() if n.endswith("_proj")]
    handles = [m.register_forward_hook(hook(n)) for n, m in projections if rounds]
    found = []
    for ids, asked in texts:
        logits = model(torch.tensor([ids]), logits_to_keep=len(ids) - asked + 1).logits[0, :-1]
        chosen = torch.tensor(ids[asked:])[:, None]
        found.append(logits.log_softmax(-1).gather(1, chosen)[:, 0])
    for handle in handles:
        handle.remove()
    return torch.cat(found)


if __name__ == "__main__":
    run_command(main)
