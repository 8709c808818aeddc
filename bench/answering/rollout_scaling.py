"""How the graph engine's time grows with rows and length, at the Gemma 3 1B shape.

    python -m bench.answering.rollout_scaling --out rollout.json
    python -m bench.answering.rollout_scaling --out int8.json --int8   # 16 beside 8 bits, 40 s

Random weights with a LoRA adapter; prompts of 150 random tokens, eight completions each, every one
as long as it may be.  Each setting is captured and run once before it is timed.  `floor_ms` is what
a token takes at least: all weights, in 16 bits, and every row's cache, half grown, are read once,
at the data sheet's bandwidth.  With `--int8` fewer settings, each also with projections in 8 bits.
"""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.shared.random_model import SIZES, adapted, random_weights
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.engine import Sampling
from xmlgrpo_run.files import write_json
from xmlgrpo_trainer.plan.gpus import nearest_gpu
from xmlgrpo_trainer.plan.shapes import ModelShape

if TYPE_CHECKING:
    from xmlgrpo_rollout.gpu.engine import GraphEngine

GIB = 2**30
SAMPLES, PROMPT_TOKENS = 8, 150
STOPS, PAD = (1, 106), 0
SETTINGS = (  # (rows, new tokens)
    *((rows, 256) for rows in (16, 64, 256, 512, 1024)),
    *((64, tokens) for tokens in (1024, 4096)),
)
FORBIDDING = (
    Sampling(64, temperature=1.0, top_k=64, top_p=0.95),
    Sampling(64, temperature=1.0, top_p=0.95),
    Sampling(64, temperature=1.0, min_p=0.1),
)
REPEATS = 3
NUMBER_BYTES = 2  # bfloat16


def floor_ms(shape: ModelShape, gpu_name: str, rows: int, new_tokens: int) -> float | None:
    """Milliseconds a token in which a GPU can read what it must; None for an unknown GPU."""
    gpu = nearest_gpu(gpu_name, 0.0)
    if gpu is None or gpu.bandwidth_gb_s is None:
        return None
    filled = shape.cached_tokens(PROMPT_TOKENS + new_tokens // 2)
    read_bytes = shape.weights * NUMBER_BYTES + shape.cache_bytes(rows * filled, NUMBER_BYTES)
    return round(read_bytes / (gpu.bandwidth_gb_s * 1e9) * 1e3, 3)


def timed(engine: "GraphEngine", rows: int, sampling: Sampling) -> dict[str, Any]:
    """Seconds of one rollout, the best of a few; each is drawn anew."""
    torch.manual_seed(0)
    shape = (max(1, rows // SAMPLES), PROMPT_TOKENS)
    prompts = torch.randint(300, engine.vocabulary, shape).tolist()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    began = time.perf_counter()
    engine.refresh()
    torch.cuda.synchronize()
    refresh_s, seconds = time.perf_counter() - began, []
    for _ in range(REPEATS + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        completions = engine(prompts, min(rows, SAMPLES), sampling)
        seconds.append(time.perf_counter() - began)
    tokens = sum(len(completion.tokens) for completion in completions)
    return {
        "rows": rows,
        "new_tokens": sampling.max_new_tokens,
        "refresh_ms": round(1e3 * refresh_s, 1),
        "first_s": round(seconds[0], 3),
        "seconds": round(min(seconds[1:]), 4),
        "tokens_per_s": round(tokens / min(seconds[1:])),
        "ms_a_token": round(1e3 * min(seconds[1:]) / sampling.max_new_tokens, 3),
        "peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 2),
    }


def main() -> None:
    """Measure every setting, write after each, print a line for each."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--size", choices=tuple(SIZES), default="1b")
    made.add_argument("--int8", action="store_true", help="few settings, with 16 and with 8 bits")
    asked = made.parse_args()
    if not torch.cuda.is_available():
        raise UserError("rollout_scaling.py needs a CUDA GPU, and torch sees none")
    from xmlgrpo_rollout.gpu.engine import GraphEngine  # noqa: PLC0415 - Triton is not everywhere

    model = adapted(random_weights(SIZES[asked.size], seed=0))
    engines = {False: GraphEngine(model, STOPS, PAD)}
    if asked.int8:
        engines[True] = GraphEngine(model, STOPS, PAD, int8=True)
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(), "settings": []}
    samplings = [(rows, Sampling(tokens, temperature=1.0)) for rows, tokens in SETTINGS]
    samplings += [(64, sampling) for sampling in FORBIDDING]
    if asked.int8:
        samplings = samplings[:3]
    settings = [(*setting, int8) for setting in samplings for int8 in engines]
    for rows, sampling, int8 in settings:
        result = {"int8": int8} | timed(engines[int8], rows, sampling)
        result["floor_ms"] = floor_ms(
            SIZES[asked.size], found["device"], rows, sampling.max_new_tokens
        )
        limits = {"top_k": sampling.top_k, "top_p": sampling.top_p, "min_p": sampling.min_p}
        found["settings"].append(result | (limits if sampling.forbids else {}))
        write_json(asked.out, found)
        print(found["settings"][-1], flush=True)


if __name__ == "__main__":
    run_command(main)
