"""Gradients of a packed pass on real weights, beside those of trl's padded rows.

    python -m bench.training.packed_gradients MODEL ADAPTER --replies step-*.jsonl --out FILE

Replies that a run has kept, of each file as many as `--each`, all of one problem.  Their mean
log-probability, each weighed by a random number as an advantage would, is differentiated by padded
rows, by packed ones and by packed ones over the engine's merged weights, in float32 and bfloat16.
How far an adapter's gradient is off: the largest distance of a matrix's from float32's padded one,
as a share of its norm, and that of all together.  Two minutes on two cores.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.shared.texts import Text, kept_replies
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rollout.cpu.engine import StaticEngine
from xmlgrpo_run.files import write_json
from xmlgrpo_trainer.grpo.packed_step.merged_pass import MergedPass
from xmlgrpo_trainer.grpo.packed_step.step import use_packed_rows

Batch = tuple[Tensor, Tensor, int]  # ids, mask, and the columns of the completions
Ways = dict[str, Callable[[Any], None]]


def main() -> int:
    """Measure and write the file."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path, help="a folder of weights")
    options.add_argument("adapter", type=Path)
    options.add_argument("--replies", type=Path, nargs="+", required=True)
    options.add_argument("--each", type=int, default=4, help="replies of a file")
    options.add_argument("--out", type=Path, required=True)
    asked = options.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    texts = [t for path in asked.replies for t in kept_replies(tokenizer, path, asked.each)]
    batch = padded(texts, tokenizer.pad_token_id)
    ways: Ways = {
        "padded": lambda _: None,
        "packed": use_packed_rows,
        "merged": lambda trainer: use_packed_rows(trainer, merged_pass(trainer, tokenizer)),
    }
    found: dict[tuple[str, str], tuple[Tensor, dict[str, Tensor]]] = {}
    for number_type in ("float32", "bfloat16"):
        for way, change in ways.items():
            model = _model(asked.model, asked.adapter, getattr(torch, number_type))
            found[number_type, way] = learnt(model, batch, change)
            print(number_type, way, flush=True)
    exact = found["float32", "padded"]
    rows = [
        {"number_type": number_type, "way": way, **_off(one, exact)}
        for (number_type, way), one in found.items()
    ]
    texts_read = {"replies": len(texts), "tokens": sum(len(ids) - read for ids, read in texts)}
    write_json(asked.out, {**texts_read, "torch": torch.__version__, "rows": rows})
    print(json.dumps(rows, indent=1))
    return 0


def _model(base: Path, adapter: Path, number_type: torch.dtype) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=number_type, use_safetensors=True)
    return PeftModel.from_pretrained(model, adapter, is_trainable=True).train()


def padded(texts: list[Text], pad_id: int) -> Batch:
    """As trl pads a batch."""
    width = max(asked for _, asked in texts)
    length = max(len(ids) - asked for ids, asked in texts)
    ids_B_T = torch.full((len(texts), width + length), pad_id)
    mask_B_T = torch.zeros_like(ids_B_T)
    for row, (ids, asked) in enumerate(texts):
        place = slice(width - asked, width - asked + len(ids))
        ids_B_T[row, place] = torch.tensor(ids)
        mask_B_T[row, place] = 1
    return ids_B_T, mask_B_T, length


def merged_pass(trainer: Any, tokenizer: Any) -> MergedPass:
    """Over the weights of the engine's CPU form."""
    engine = StaticEngine(trainer.model, [], tokenizer.pad_token_id)
    return MergedPass(trainer, engine, draws=True)


def learnt(
    model: Any, batch: Batch, change: Callable[[Any], None]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities of all tokens, and the gradient of every matrix of the adapter."""
    ids_B_T, mask_B_T, length = batch
    trainer = SimpleNamespace(
        model=model,
        accelerator=Accelerator(cpu=True),
        args=SimpleNamespace(
            steps_per_generation=1,
            gradient_accumulation_steps=1,
            num_iterations=1,
            gradient_checkpointing=False,
        ),
        state=SimpleNamespace(global_step=0),
        temperature=1.0,
        _entropy_bonus_enabled=False,
        _get_per_token_logps_and_entropies=None,
        _prepare_inputs=None,
    )
    change(trainer)
    score = trainer._get_per_token_logps_and_entropies  # noqa: SLF001 - as trl names it
    if score is None:
        logits = model(input_ids=ids_B_T, attention_mask=mask_B_T, logits_to_keep=length + 1).logits
        logs_B_T_V = logits[:, :-1].float().log_softmax(-1)
        logprobs_B_T = logs_B_T_V.gather(2, ids_B_T[:, -length:, None])[:, :, 0]
    else:
        logprobs_B_T = score(model, ids_B_T, mask_B_T, length)[0]
    is_token_B_T = mask_B_T[:, -length:].bool()
    advantages_B_1 = torch.randn(len(ids_B_T), 1, generator=torch.Generator().manual_seed(0))
    weighed = (logprobs_B_T * advantages_B_1)[is_token_B_T]
    weighed.mean().backward()
    gradients = {n: p.grad.float() for n, p in model.named_parameters() if p.grad is not None}
    return logprobs_B_T.detach()[is_token_B_T], gradients


def _off(
    found: tuple[Tensor, dict[str, Tensor]], exact: tuple[Tensor, dict[str, Tensor]]
) -> dict[str, float]:
    (logprobs, gradients), (exact_logprobs, exact_gradients) = found, exact
    off = {n: float((gradients[n] - of).norm()) for n, of in exact_gradients.items()}
    norms = {n: float(of.norm()) for n, of in exact_gradients.items()}
    whole = [sum(v * v for v in of.values()) ** 0.5 for of in (off, norms)]
    return {
        "logprobs_mean_off": float((logprobs - exact_logprobs).abs().mean()),
        "largest_off": max(off[n] / norms[n] for n in off),
        "all_off": whole[0] / whole[1],
    }


if __name__ == "__main__":
    run_command(main)
