"""A rough time for a run, from the few step times that were measured.

A step of a small model on a fast GPU waits for Python, not for the GPU: each decoder layer costs a
fixed time a token, and a micro-batch a fixed time a layer.  On slow GPUs arithmetic or memory
takes longer than that, so the larger of the two counts.  Right within about a factor of two where
it was measured (H100, H200; 1B in bfloat16, 4B in 4 bits); elsewhere unknown.
"""

from dataclasses import dataclass

from xmlgrpo_trainer.plan.gpus import Gpu
from xmlgrpo_trainer.plan.memory import Load, estimate
from xmlgrpo_trainer.plan.sizing import Schedule

# transformers' generate, one token for every row: 71 ms for 26 layers (H100; 74 on an H200), 100 ms
# for 34 layers in 4 bits (H100).
DECODE_LAYER_S = 0.0029
# The graph engine reads weights and cache at this share of the data sheet's bandwidth: 2.0, 3.3,
# 5.2 and 9.6 ms a token for 16, 256, 512 and 1,024 rows of the 1B (H100, docs/results.md).
GRAPH_REACHED = 0.4
# One micro-batch forward and backward with checkpointing: 2.66 s for 8 of 26 layers (H100).
UPDATE_LAYER_S = 0.0128
MEASURED = {
    "generate": "measured: 2.9 ms a layer on an H100",
    "graph": "measured: 0.4 of an H100's bandwidth",
}
# Share of a data sheet's rate that training reaches once arithmetic is the limit (judgement).
REACHED = 0.35
# Passes over the weights: forward, again for the checkpoint, backward for activations; 2 FLOP each.
PASSES = 4
# The tiny model: 64 completions of at most 80 tokens took 0.75 to 0.97 s a step on two cores.
TINY_S_PER_TOKEN = 0.9 / (64 * 80)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds, when every completion runs to its limit; shorter replies take less.

    Attributes:
        rollout_s, update_s: of one optimiser step.
        held_out_s: of all held-out problems of the run.
        grounds: where the figures come from, in words.
    """

    rollout_s: float
    update_s: float
    held_out_s: float | None
    grounds: str

    def total_s(self, steps: int | None) -> float | None:
        """The whole run; None when the number of steps is not known."""
        if steps is None or self.held_out_s is None:
            return None
        return steps * (self.rollout_s + self.update_s) + self.held_out_s


def pace(planned: Schedule, load: Load, gpu: Gpu | None) -> Pace | None:
    """Estimate the time; None where nothing was measured that would carry over."""
    if gpu is None:
        return _tiny(planned) if load.shape.name == "tiny" else None
    if gpu.tflops is None or gpu.bandwidth_gb_s is None or load.engine == "vllm":
        return None
    token_s = _token_s(load, gpu)
    update_s = max(
        planned.micro_batches * load.shape.layers * UPDATE_LAYER_S,
        _update_flop(planned, load) / (gpu.tflops * 1e12 * REACHED),
    )
    held_out_s = None
    if planned.asked is not None:
        batches = -(-planned.asked // load.held_out_rows)
        held_out_s = batches * load.held_out_tokens * token_s
    return Pace(
        rollout_s=planned.completion_tokens * token_s / planned.reuse,
        update_s=update_s,
        held_out_s=held_out_s,
        grounds=(
            f"{token_s * 1e3:.3g} ms a token through {load.engine} ({MEASURED[load.engine]}), "
            f"{update_s / planned.micro_batches:.2f} s a micro-batch; every reply as long "
            "as allowed; right within about a factor of two where it was measured (1B and 4B, "
            "H100 and H200), unknown elsewhere"
        ),
    )


def _token_s(load: Load, gpu: Gpu) -> float:
    peak = estimate(load)
    if load.engine == "graph":
        filled = load.shape.cached_tokens(load.prompt_tokens + load.completion_tokens)
        read_bytes = float(load.shape.cache_bytes(load.rows * filled, load.number_bytes))
        read_bytes += load.shape.weights * load.number_bytes
        return read_bytes / ((gpu.bandwidth_gb_s or 0.0) * 1e9 * GRAPH_REACHED)
    read_bytes = (peak.weights + peak.cache) * 2**30
    bandwidth = (gpu.bandwidth_gb_s or 0.0) * 1e9 * REACHED
    return max(load.shape.layers * DECODE_LAYER_S, read_bytes / bandwidth)


def _update_flop(planned: Schedule, load: Load) -> float:
    head = load.shape.vocabulary * load.shape.hidden
    completions = planned.micro_batch * planned.micro_batches
    return (
        2.0
        * PASSES
        * (
            planned.tokens_per_step * load.shape.projection_weights
            + completions * planned.completion_tokens * head
        )
    )


def _tiny(planned: Schedule) -> Pace:
    tokens = planned.micro_batch * planned.micro_batches * planned.completion_tokens
    step_s = tokens * TINY_S_PER_TOKEN
    share = 0.3  # of a tiny step that is rollout
    held_out_s = None
    if planned.asked is not None:
        held_out_s = planned.asked * planned.completion_tokens * TINY_S_PER_TOKEN * share
    return Pace(
        rollout_s=step_s * share,
        update_s=step_s * (1 - share),
        held_out_s=held_out_s,
        grounds="0.9 s a step of 64 completions of 80 tokens on two CPU cores; the warm start "
        "(2 to 3 minutes, once) comes on top",
    )
