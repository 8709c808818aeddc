"""The importance matrix: which inputs of a layer matter, so that their weights round less.

llama.cpp's quantizer weighs the error of column i of a matrix by the mean of x_i squared over real
inputs x (llama.cpp tools/imatrix).  Those means are taken here from the merged model itself, while
it reads the prompts and its own replies to them: what it will be used for.

The names of Gemma, Llama, Mistral and Qwen are known; a layer of another name is quantized without.
The prompts should not be those of the check, or the check would flatter the file.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

from xmlgrpo_exporter.check.questions import Comparison
from xmlgrpo_exporter.check.reference import Reference
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import replacing
from xmlgrpo_run.screen.progress import Stage

LEAST_PROMPTS = 8
LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)$")
GGUF_NAMES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}


def require_calibration(comparison: Comparison) -> None:
    """See that enough questions are left to calibrate with."""
    questions, checked = comparison.questions, len(comparison.answered)
    left = len(questions.texts) - checked
    if left < LEAST_PROMPTS:
        raise UserError(
            f"an importance matrix needs {LEAST_PROMPTS} questions besides the {checked} of "
            f"the check, {left} are left ({questions.source}); give more with --data"
        )


def gguf_name(module: str) -> str | None:
    """The tensor of a linear layer in a GGUF; None for anything else, the vision tower included.

    `model.layers.0.mlp.up_proj` is `blk.0.ffn_up.weight` there.
    """
    found = LAYER.search(module)
    if not found or "vision" in module or found[2] not in GGUF_NAMES:
        return None
    return f"blk.{found[1]}.{GGUF_NAMES[found[2]]}.weight"


def write_imatrix(reference: Reference, out: Path) -> int:
    """Measure an importance matrix and write it as an .npz, one float32 row per tensor.

    Returns:
        How many tokens were read.
    """
    import numpy as np
    import torch

    model, prompts, comparison = reference.model, reference.calibration, reference.comparison
    sums: dict[str, Any] = {}
    counts: dict[str, int] = {}

    def add(name: str, _module: Any, inputs: tuple[Any, ...]) -> None:
        rows = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).double()
        sums[name] = sums.get(name, 0.0) + rows.square().sum(0)
        counts[name] = counts.get(name, 0) + len(rows)

    console, words = comparison.console, "replies to calibrate by"
    replies = model.greedy(prompts, comparison.new_tokens, console, words)
    hooks = [
        module.register_forward_pre_hook(partial(add, name))
        for path, module in model.model.named_modules()
        if isinstance(module, torch.nn.Linear) and (name := gguf_name(path))
    ]
    if not hooks:
        raise UserError("no layer of this model has a name known to --imatrix; leave it out")
    read = list(zip(prompts, replies, strict=True))
    try:
        with Stage(console, "importance matrix", unit="replies") as stage:
            for prompt, reply in stage.through(read):
                model.logits(prompt, reply)
    finally:
        for hook in hooks:
            hook.remove()
    rows = {name: (total / counts[name]).float().cpu().numpy() for name, total in sums.items()}
    with replacing(out) as unfinished, unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **rows)
    return max(counts.values())
