"""Peak GPU memory of a GRPO run, counted from shapes and checked against measured peaks.

What is there all the time (weights, adapter, optimiser) plus the larger of two phases: the rollout
(keys and values, reading the prompts) and the update (one micro-batch forward and backward).  The
byte counts come from reading trl 1.14.2 and were fitted to peaks measured on an H100, which
docs/configuration.md lists and a test repeats.  It is an estimate of the plain backend; Unsloth was
not measured with this trl.

Dimensions: V vocabulary, rows B of a micro-batch, T completion tokens.
"""

from dataclasses import dataclass
from typing import Literal

from xmlgrpo_trainer.plan.shapes import ModelShape

GIB = 2**30

# nf4 with double quantisation: 4 bits a weight, an 8-bit scale every 64, a 32-bit one every 256
# of those (QLoRA, arXiv 2305.14314, section 3).
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# cuBLAS workspaces and buffers: what the measured runs held beside their counted weights.
WORKSPACE_GIB = 0.1
# A CUDA context with cuBLAS and Triton modules: 0.60 GiB when fresh, 0.75 after a step (H100).
CONTEXT_GIB = 0.75
# Judgement: freed blocks of the wrong size.  With room to spare the allocator held up to 60 % more
# than was in use; when memory is short it gives blocks back first.
SLACK_SHARE = 0.08

# trl's loss from whole logits.  Training: float32 logits and their gradient.  The pass without
# gradient (reference or old policy): float32 logits, a contiguous copy, and the model's own.
TRAINED_LOGIT_BYTES = 8
SCORED_LOGIT_BYTES = 8
# Sampling: float32 logits, their probabilities, one copy; (rows, V).
SAMPLED_LOGIT_BYTES = 12
# Bytes a token leaves in one layer, over `ModelShape.layer_width`.  Kept for the backward pass
# without checkpointing, and while one checkpointed layer is computed again.
KEPT_BYTES = 10.25
RECOMPUTED_BYTES = 12.6
# Bytes a prompt token needs in one feed-forward part without gradient, over its width, beside the
# copy that LoRA makes in its own number type.
READ_BYTES = 9


@dataclass(frozen=True, slots=True)
class Load:
    """What a run asks of one GPU.

    Attributes:
        shape: of the model.
        number_bytes: of a weight that is not 4-bit; 2 for bfloat16, 4 for float32.
        quantized: linear layers in 4 bits.
        lora_weights: trained weights.
        optimizer_bytes: a trained weight's share of the optimiser's state, for both moments.
        engine: draws the completions.
        rows: completions drawn at once.
        group: completions of one prompt.
        held_out_rows: completions drawn at once when held-out problems are asked.
        micro_batch: completions in one forward and backward pass.
        prompt_tokens, completion_tokens: the longest.
        held_out_tokens: the longest completion to a held-out problem.
        checkpointing: only each layer's input is kept for the backward pass.
        whole_logits: logits of a micro-batch exist at once; false with Liger's chunks.
        second_pass: log-probabilities of a reference or an old policy are needed too.
        vllm_gib: what vLLM takes for itself.
    """

    shape: ModelShape
    number_bytes: int
    quantized: bool
    lora_weights: int
    optimizer_bytes: float
    engine: Literal["generate", "graph", "vllm"]
    rows: int
    group: int
    held_out_rows: int
    micro_batch: int
    prompt_tokens: int
    completion_tokens: int
    held_out_tokens: int
    checkpointing: bool = True
    whole_logits: bool = True
    second_pass: bool = False
    vllm_gib: float = 0.0

    @property
    def adapter_bytes(self) -> int:
        """Of an adapter weight: trl makes a 4-bit model's bfloat16, else peft keeps float32."""
        return 2 if self.quantized else 4


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
    cache, rollout, engine = _rollout(load)
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


def _rollout(load: Load) -> tuple[float, float, float]:
    """Keys and values, what reading and sampling need, and what the engine keeps; GiB."""
    if load.engine == "vllm":
        held_out = _drawn(load, load.held_out_rows, load.held_out_tokens)
        return held_out[0], held_out[1], load.vllm_gib
    phases = (
        _drawn(load, load.rows, load.completion_tokens),
        _drawn(load, load.held_out_rows, load.held_out_tokens),
    )
    cache, rollout = max(phases, key=sum)
    if load.engine == "generate":
        return cache, rollout, 0.0
    # merged copies of every projection; a captured graph knows its cache by address, so training's
    # and the held-out problems' are both kept
    merged = load.shape.projection_weights * load.number_bytes / GIB
    return 0.0, rollout, merged + sum(kept for kept, _ in phases)


def _drawn(load: Load, rows: int, tokens: int) -> tuple[float, float]:
    shape = load.shape
    longest = load.prompt_tokens + tokens
    cache = shape.cache_bytes(rows * shape.cached_tokens(longest), load.number_bytes) / GIB
    sampling = rows * shape.vocabulary * SAMPLED_LOGIT_BYTES / GIB
    # the graph engine reads each distinct prompt once, generate every row
    read_rows = max(1, rows // load.group) if load.engine == "graph" else rows
    wide = read_rows * load.prompt_tokens * shape.mlp
    reading = wide * (READ_BYTES + load.adapter_bytes) * (load.number_bytes / 2) / GIB
    first = shape.cache_bytes(rows * shape.cached_tokens(load.prompt_tokens), load.number_bytes)
    if first / GIB + reading > cache + sampling:
        return first / GIB, reading
    return cache, sampling


def _update(load: Load) -> tuple[float, float]:
    """Activations and logits of one micro-batch, GiB."""
    shape = load.shape
    tokens = load.micro_batch * (load.prompt_tokens + load.completion_tokens)
    wide = tokens * shape.layer_width * (load.number_bytes / 2)
    if load.checkpointing:
        kept = tokens * shape.layers * shape.hidden * load.number_bytes / GIB
        recomputed = wide * RECOMPUTED_BYTES / GIB
    else:
        kept = wide * shape.layers * KEPT_BYTES / GIB
        recomputed = 0.0
    if not load.whole_logits:
        return kept + recomputed, 0.0
    numbers_B_T_V = load.micro_batch * (load.completion_tokens + 1) * shape.vocabulary
    trained = numbers_B_T_V * TRAINED_LOGIT_BYTES / GIB
    own = load.number_bytes if load.number_bytes < 4 else 0
    scored = numbers_B_T_V * (SCORED_LOGIT_BYTES + own) / GIB if load.second_pass else 0.0
    # logits are gone when a layer is computed again; the scoring pass keeps no activations
    if scored > kept + max(trained, recomputed):
        return 0.0, scored
    return kept + max(0.0, recomputed - trained), trained
