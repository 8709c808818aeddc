"""A rough time for a run, from the few step times of our engine and our step that were measured.

A step of a small model on a fast GPU waits for Python, not for the GPU: each decoder layer costs a
fixed time per token, and a micro-batch a fixed time per layer.  On slow GPUs arithmetic or memory
takes longer than that, so the larger of the two counts.  `bench/training/plan_error.py` sets the
figures beside every measurement that is kept in docs/measured; on GPUs that nobody measured they
are scaled by the data sheets' rates.
"""

from dataclasses import dataclass

from xmlgrpo_trainer.plan.gpus import GIB, Gpu
from xmlgrpo_trainer.plan.memory import estimate, masked_layers
from xmlgrpo_trainer.plan.workload import Load

# transformers' generate with our LoRA projection, one token for every row: 14.2 s a step of 256
# tokens through 26 layers, less the update (H200); reading weights and cache at this share of the
# data sheet's bandwidth where that takes longer (judgement).
GENERATE_LAYER_S, GENERATE_REACHED = 0.00205, 0.35
# The graph engine reads weights at this share of the data sheet's bandwidth, judged by the step of
# 70 s of the 4B (docs/measured/limits-h200.json) ...
GRAPH_WEIGHTS_REACHED = 0.6
# ... and the cache, half grown, with all that each row's token costs, at this one: 2.7, 4.3 and 7.7
# ms a token for 256, 512 and 1,024 rows of the 1B (docs/measured/rollout-h200.json).
GRAPH_CACHE_REACHED = 0.22
# It needs at least this for one layer's kernels: 1.56 to 1.73 ms a token for 64 rows of 256 to
# 4,096 tokens (the same file).
GRAPH_LAYER_S = 64e-6

# Our training step (`grpo.fast_step`), an H200's.  A pass without gradient took 0.117 s (what the
# correction added in docs/measured/speed-h200.json) for 4.6e13 FLOP, texts being padded to 143 +
# 256 tokens on average: that share of the data sheet's rate.
REACHED = 0.39
# What is left of steps beside rollout and arithmetic (docs/measured/growth-h200.json): merging the
# adapter, the optimiser and logs; and for each token of a completion: text, rewards, metrics.
STEP_S = 0.08
TOKEN_S = 3e-6
# Where a sliding layer sees less than the whole text and the window's kernel is not there, it needs
# a mask, and torch's attention with a mask is slow: fitted to steps of 1,024 and 2,048 tokens with
# masks, 3.52 and 7.85 s (docs/results.md).
MASKED_REACHED = 0.05
# Kernels of a layer and micro-batch are launched no faster, forwards and backwards (judgement: some
# 120 launches); a third of it forwards.
LAYER_S = 0.001

# The tiny model on two cores: a step of 64 completions of at most 80 tokens took 0.75 to 0.97 s,
# with packed rows 0.34 s, of which 0.13 s were rollout (1 December).
TINY_TOKENS = 64 * 80
TINY_ROLLOUT_S, TINY_UPDATE_S, TINY_PACKED_UPDATE_S = 0.15, 0.75, 0.25


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds, when every completion runs to its limit; shorter replies take less."""

    rollout_s: float  # of one optimiser step
    update_s: float  # of one optimiser step
    held_out_s: float | None  # of all held-out problems of the run
    grounds: str  # where the figures are from, in words

    def total_s(self, steps: int | None) -> float | None:
        """The whole run; None when the number of steps is not known."""
        if steps is None or self.held_out_s is None:
            return None
        return steps * (self.rollout_s + self.update_s) + self.held_out_s


def pace(load: Load, gpu: Gpu | None) -> Pace | None:
    """Estimate the time; None where nothing was measured: another step or engine than ours."""
    if gpu is None:
        return _tiny(load) if load.shape.name == "tiny" else None
    if gpu.tflops is None or gpu.bandwidth_gb_s is None or load.engine == "vllm" or not load.ours:
        return None
    token_s = _token_s(load, gpu.bandwidth_gb_s * 1e9)
    factors = gpu.float16_tflops if load.narrow and gpu.float16_tflops else gpu.tflops
    update_s = _update_s(load, gpu.tflops * 1e12, factors / gpu.tflops)
    held_out_s = None
    if load.asked is not None:
        batches = -(-load.asked // load.held_out_rows)
        held_out_s = batches * load.held_out_tokens * token_s
    origin = "from steps that were timed on an H100 and an H200, docs/results.md says how near"
    if not gpu.is_measured:
        origin = (
            f"nobody timed a step on {gpu.name}: scaled from an H100 and an H200 by the data "
            "sheets' rates, so only the order of magnitude counts"
        )
    return Pace(
        rollout_s=load.completion_tokens * token_s / load.reuse,
        update_s=update_s,
        held_out_s=held_out_s,
        grounds=(
            f"{token_s * 1e3:.3g} ms a token through {load.engine}, "
            f"{update_s / load.micro_batches:.2f} s a micro-batch; every reply as long as "
            f"allowed and every prompt as the longest; {origin}"
        ),
    )


def _token_s(load: Load, bandwidth: float) -> float:
    """Of one token of every completion; the memory's bandwidth in bytes per second."""
    shape = load.shape
    if load.engine == "graph":
        filled = shape.cached_tokens(load.prompt_tokens + load.completion_tokens // 2)
        cache_bytes = shape.cache_bytes(load.rows * filled, load.number_bytes)
        read_s = shape.weights * load.number_bytes / (bandwidth * GRAPH_WEIGHTS_REACHED)
        read_s += cache_bytes / (bandwidth * GRAPH_CACHE_REACHED)
        return max(shape.layers * GRAPH_LAYER_S, read_s)
    peak = estimate(load)
    read_s = (peak.weights + peak.cache) * GIB / (bandwidth * GENERATE_REACHED)
    return max(shape.layers * GENERATE_LAYER_S, read_s)


def _update_s(load: Load, tflops: float, quicker: float) -> float:
    """One step's passes and what is beside them.

    Args:
        tflops: the GPU's rate in FLOP per second.
        quicker: products with weights are so many times as quick.
    """
    rate, layers = tflops * REACHED, load.shape.layers
    texts = load.micro_batch * load.micro_batches
    # frozen weights get no gradient: forward, backward, and forward again for a checkpoint; of the
    # head's three products one makes the chunked logits again; attention backwards is 2.5 forward
    again = int(load.checkpointing)
    # a packed row's head makes its gradient while the logits are there
    head_passes = 2 + int(load.liger and not load.packed)
    passes = (2 + again) / quicker, head_passes / quicker
    flop = texts * _flop(load, *passes, mixes=3.5 + again)
    step_s = max(flop / rate, load.micro_batches * layers * LAYER_S)
    step_s += STEP_S + texts * load.completion_tokens * TOKEN_S
    step_s += texts * (3.5 + again) * _masked_flop(load) / (tflops * MASKED_REACHED)
    if not load.second_pass:
        return step_s
    parts = -(-load.rows // (load.scored_rows if load.liger else load.micro_batch))
    scored_flop = load.rows * _flop(load, 1 / quicker, 1 / quicker, mixes=1)
    scored_flop += load.rows * _masked_flop(load) * REACHED / MASKED_REACHED
    return step_s + max(scored_flop / rate, parts * layers * LAYER_S / 3) / load.reuse


def _flop(load: Load, passes: float, head_passes: float, *, mixes: float) -> float:
    """Of one text, but for attention with a mask."""
    shape = load.shape
    return (
        2.0 * passes * load.micro_tokens / load.micro_batch * shape.projection_weights
        + 2.0 * head_passes * load.completion_tokens * shape.vocabulary * shape.hidden
        + mixes * unmasked_flop(load)
    )


def unmasked_flop(load: Load) -> float:
    """Of one text's forward pass through attention without a mask."""
    shape, length = load.shape, load.length
    masked = masked_layers(load)
    shared = 1 - load.pass_prompts / load.micro_batch  # prompts that stand there for another's
    pairs = (shape.layers - masked) * (length**2 - shared * load.prompt_tokens**2)
    if not masked and shape.window is not None and length > shape.window:
        # what is further apart than the window, on both sides, as length**2 has both halves
        pairs -= shape.sliding_layers * (length - shape.window) ** 2
    return pairs * _pair_flop(load)


def _masked_flop(load: Load) -> float:
    """Of one text's forward pass through the attention that needs a mask, which saves nothing."""
    return masked_layers(load) * load.length**2 * _pair_flop(load)


def _pair_flop(load: Load) -> float:
    """Of two tokens in one layer: their scores, and values summed."""
    return 4.0 * load.shape.heads * load.shape.head_dim


def _tiny(load: Load) -> Pace:
    steps_s = load.micro_batch * load.micro_batches * load.completion_tokens / TINY_TOKENS
    update_s = TINY_PACKED_UPDATE_S if load.packed else TINY_UPDATE_S
    held_out_s = None
    if load.asked is not None:
        held_out_s = load.asked * load.completion_tokens / TINY_TOKENS * TINY_ROLLOUT_S
    return Pace(
        rollout_s=steps_s * TINY_ROLLOUT_S,
        update_s=steps_s * update_s,
        held_out_s=held_out_s,
        grounds=f"{TINY_ROLLOUT_S + update_s:.1f} s a step of 64 completions of 80 tokens on two "
        "CPU cores; the warm start (2 to 3 minutes, once) comes on top",
    )
