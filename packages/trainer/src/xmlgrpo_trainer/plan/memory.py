"""Peak GPU memory of a GRPO run, counted from shapes and checked against measured peaks.

What is there all the time (weights, adapter, optimiser) plus the larger of two phases: the rollout
(keys and values, reading the prompts) and the update (one micro-batch forward and backward, or the
pass without gradient before it).  The byte counts come from reading trl 1.14.2 and were fitted to
peaks measured on an H100, which docs/configuration.md lists and a test repeats.  It is an estimate
of the plain backend; Unsloth was not measured with this trl.

Dimensions: V vocabulary, rows B of a micro-batch, T completion tokens.
"""

from dataclasses import dataclass

from xmlgrpo_trainer.plan.activations import (
    kept_bytes,
    passing_bytes,
    reading_bytes,
    scored_bytes,
)
from xmlgrpo_trainer.plan.load import Load

GIB = 2**30

# nf4 with double quantisation: 4 bits a weight, an 8-bit scale every 64, a 32-bit one every 256
# of those (QLoRA, arXiv 2305.14314, section 3).
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# cuBLAS workspaces and buffers: what the measured runs held beside their counted weights.
WORKSPACE_GIB = 0.1
# A CUDA context with cuBLAS and Triton modules: 0.60 GiB when fresh, 0.75 after a step (H100).
CONTEXT_GIB = 0.75
# Judgement: freed blocks of the wrong size.  With room to spare the allocator held far more than
# was in use (docs/configuration.md says how much); when memory is short it gives blocks back first.
SLACK_SHARE = 0.08

# trl's loss from whole logits.  Training: float32 logits and their gradient.  The pass without
# gradient (reference or old policy): float32 logits, a contiguous copy, and the model's own.
TRAINED_LOGIT_BYTES = 8
SCORED_LOGIT_BYTES = 8
# Sampling: float32 logits, their probabilities, one copy; (rows, V).
SAMPLED_LOGIT_BYTES = 12
# The graph engine (xmlgrpo_rollout.gpu.engine) rounds its cache up to so many tokens, gives it at
# most this share of what is free, and reads so many prompt tokens at once.
SLOTS_MULTIPLE, ENGINE_ROWS, ENGINE_SHARE, PREFILL_TOKENS = 128, 1024, 0.4, 16_384
# Logits that `xmlgrpo_trainer.grpo.fast_step.logprobs` holds: a part, and the one before it until
# it is freed.
PART_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Peak:
    """The estimate, in GiB, by part.

    `cache` and `rollout` belong to one phase, `activations` and `logits` to the other: they follow
    one another, so the larger one counts.  `engine` is what the rollout engine keeps in between.
    """

    weights: float
    adapter: float
    engine: float
    cache: float
    rollout: float
    activations: float
    logits: float
    context: float
    slack: float

    @property
    def update(self) -> float:
        """Of a micro-batch's forward and backward pass."""
        return self.activations + self.logits

    @property
    def allocated(self) -> float:
        """What `torch.cuda.max_memory_allocated` would say."""
        resident = self.weights + self.adapter + self.engine
        return resident + max(self.cache + self.rollout, self.update)

    @property
    def total(self) -> float:
        """What the GPU must have free."""
        return self.allocated + self.context + self.slack


def estimate(load: Load) -> Peak:
    """Count the peak of `load`."""
    weights = _weights(load) + WORKSPACE_GIB
    adapter = load.lora_weights * (2 * load.adapter_bytes + load.optimizer_bytes) / GIB
    cache, rollout, engine = _rollout(load, weights + adapter)
    activations, logits = _update(load)
    inside = weights + adapter + engine + max(cache + rollout, activations + logits)
    return Peak(
        weights=weights,
        adapter=adapter,
        engine=engine,
        cache=cache,
        rollout=rollout,
        activations=activations,
        logits=logits,
        context=CONTEXT_GIB,
        slack=SLACK_SHARE * inside,
    )


def _weights(load: Load) -> float:
    shape = load.shape
    packed = shape.linear_weights if load.quantized else 0
    return (packed * NF4_BYTES + (shape.weights - packed) * load.number_bytes) / GIB


def _rollout(load: Load, resident: float) -> tuple[float, float, float]:
    """Keys and values, what reading and sampling need, and what the engine keeps; GiB."""
    if load.engine == "vllm":
        held_out = _drawn(load, load.held_out_rows, load.held_out_tokens)
        return held_out[0], held_out[1], load.vllm_gib
    if load.engine == "generate":
        drawn = _drawn(load, load.rows, load.completion_tokens)
        held_out = _drawn(load, load.held_out_rows, load.held_out_tokens)
        cache, rollout = max(drawn, held_out, key=sum)
        return cache, rollout, 0.0
    # merged copies of every projection; a captured graph knows its cache by address, so training's
    # and the held-out problems' are both kept
    engine = load.shape.projection_weights * load.number_bytes / GIB
    rollout = 0.0
    for rows, tokens in (
        (load.held_out_rows, load.held_out_tokens),
        (load.rows, load.completion_tokens),
    ):
        together = _rows_with_room(load, rows, tokens, resident + engine)
        cache, passing = _drawn(load, together, tokens)
        engine, rollout = engine + cache, max(rollout, passing)
    return 0.0, rollout, engine


def _rows_with_room(load: Load, rows: int, tokens: int, taken: float) -> int:
    """How many completions the graph engine grows side by side when so many GiB are taken."""
    rows = min(rows, ENGINE_ROWS)
    if load.room_gib is None:
        return rows
    free = max(0.0, load.room_gib - CONTEXT_GIB - taken) * GIB
    row_bytes = load.shape.cache_bytes(_slots(load, tokens), load.number_bytes)
    return max(min(load.group, rows), min(rows, int(ENGINE_SHARE * free / row_bytes)))


def _slots(load: Load, tokens: int) -> int:
    """Keys of a text of the longest prompt and so many more tokens, summed over layers."""
    longest = load.prompt_tokens + tokens
    if load.engine == "graph":
        longest = -(-longest // SLOTS_MULTIPLE) * SLOTS_MULTIPLE
    return load.shape.cached_tokens(longest)


def _drawn(load: Load, rows: int, tokens: int) -> tuple[float, float]:
    shape = load.shape
    cache = shape.cache_bytes(rows * _slots(load, tokens), load.number_bytes) / GIB
    sampling = rows * shape.vocabulary * SAMPLED_LOGIT_BYTES / GIB
    if load.engine == "graph":
        # each distinct prompt is read once, into a cache that is there already
        read = min(max(1, rows // load.group) * load.prompt_tokens, PREFILL_TOKENS)
        reading = reading_bytes(load, read, lora_apart=False) / GIB
        return cache, max(sampling, reading)
    lora_apart = not load.fused_lora
    reading = reading_bytes(load, rows * load.prompt_tokens, lora_apart=lora_apart) / GIB
    first = shape.cache_bytes(rows * shape.cached_tokens(load.prompt_tokens), load.number_bytes)
    if first / GIB + reading > cache + sampling:
        return first / GIB, reading
    return cache, sampling


def _update(load: Load) -> tuple[float, float]:
    """Activations and logits of one micro-batch, or of the pass before it; GiB."""
    kept, passing = kept_bytes(load) / GIB, passing_bytes(load) / GIB
    numbers_B_T_V = load.micro_batch * (load.completion_tokens + 1) * load.shape.vocabulary
    if load.liger:
        trained = _logits_in_parts(load) if load.ours else 0.0
        scored = scored_bytes(load) / GIB if load.second_pass else 0.0
    else:
        trained = numbers_B_T_V * TRAINED_LOGIT_BYTES / GIB
        own = load.number_bytes if load.number_bytes < 4 else 0
        scored = numbers_B_T_V * (SCORED_LOGIT_BYTES + own) / GIB if load.second_pass else 0.0
    # logits are gone when the gradient reaches a layer; the scoring pass keeps no activations
    if scored > kept + max(trained, passing):
        return (scored, 0.0) if load.liger else (0.0, scored)
    return kept + max(0.0, passing - trained), trained


def _logits_in_parts(load: Load) -> float:
    """What `gpu.logprobs` holds: parts of the logits; hidden states and their gradient; GiB."""
    tokens = load.micro_batch * load.completion_tokens
    logits = tokens * load.shape.vocabulary * load.number_bytes
    held = logits if logits <= PART_BYTES else 2 * PART_BYTES
    return (held + 2 * tokens * load.shape.hidden * load.number_bytes) / GIB
