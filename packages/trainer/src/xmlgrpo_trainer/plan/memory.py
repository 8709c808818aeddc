"""Peak GPU memory of a GRPO run, counted tensor by tensor and checked against measured peaks.

What is there all the time (weights, adapter, optimiser) plus the larger of two phases: the rollout
(keys and values, reading the prompts) and the update (one micro-batch forward and backward, or the
pass without gradient before it).  The byte counts are read from trl 1.14.2, transformers 5.17, peft
0.21, liger-kernel 0.8.5 and `xmlgrpo_trainer.grpo.fast_step`; a test holds the count of a layer to
what autograd saves of a small Gemma 3, another the whole to peaks measured on an H100, which
docs/configuration.md lists.  It is an estimate of the plain backend; Unsloth is not counted.
"""

from dataclasses import dataclass

from xmlgrpo_rollout.gpu import MEMORY_SHARE, PREFILL_TOKENS, ROWS, SLOTS_MULTIPLE
from xmlgrpo_trainer.plan.workload import Load

GIB = 2**30
FLOAT32 = 4

# nf4 with double quantisation: 4 bits a weight, an 8-bit scale every 64, a 32-bit one every 256
# of those (QLoRA, arXiv 2305.14314, section 3).
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
INT8_BYTES = 1  # and a scale for each row, which is one in hundreds or thousands
# cuBLAS workspaces and buffers: what the measured runs held beside their counted weights.
WORKSPACE_GIB = 0.1
# A CUDA context with cuBLAS and Triton modules: 0.60 GiB when fresh, 0.75 after a step (H100).
CONTEXT_GIB = 0.75
# Judgement: freed blocks of the wrong size.  With room to spare the allocator held 3 to 91 % more
# than was in use (docs/measured/peaks-h100.json); when memory is short it gives blocks back first.
SLACK_SHARE = 0.08

# Bytes per feed-forward number, for gradients on their way through one layer with peft's LoRA: what
# is left of the peak that was measured with chunked logits (`1b-32x256-liger`) over the count.
PEFT_IN_FLIGHT_BYTES = 7.1
# Bytes that a token needs in one feed-forward part without gradient, over its width, beside the
# copy that peft's LoRA makes in its own number type.
READ_BYTES = 9
MASK_MULTIPLE = 16  # memory-efficient attention reads masks whose rows are so many numbers
# trl's loss from whole logits.  Training: float32 logits and their gradient.  The pass without
# gradient (reference or old policy): float32 logits, a contiguous copy, and the model's own.
TRAINED_LOGIT_BYTES = 8
SCORED_LOGIT_BYTES = 8
# Sampling: float32 logits, their probabilities, one copy; (rows, V).
SAMPLED_LOGIT_BYTES = 12
# Logits and their gradient that `grpo.fast_step.logprobs` holds: a part, and the one before it
# until it is freed.
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
    def slack(self) -> float:
        """Fragments."""
        return SLACK_SHARE * self.allocated

    @property
    def total(self) -> float:
        """What the GPU must have free."""
        return self.allocated + CONTEXT_GIB + self.slack


def estimate(load: Load) -> Peak:
    """Count the peak of `load`."""
    shape = load.shape
    packed = shape.linear_weights if load.quantized else 0
    weight_bytes = 2 if load.narrow else load.number_bytes
    weights = (packed * NF4_BYTES + (shape.weights - packed) * weight_bytes) / GIB
    weights += WORKSPACE_GIB
    adapter = load.lora_weights * (2 * load.adapter_bytes + load.optimizer_bytes) / GIB
    cache, rollout, engine = _rollout(load, weights + adapter)
    activations, logits = _update(load)
    return Peak(weights, adapter, engine, cache, rollout, activations, logits)


def _rollout(load: Load, resident: float) -> tuple[float, float, float]:
    """Keys and values, what reading and sampling need, and what the engine keeps; GiB."""
    held_out = load.held_out_rows, load.held_out_tokens
    training = load.rows, load.completion_tokens
    if load.engine == "vllm":
        return *_generated(load, *held_out), load.vllm_gib
    if load.engine == "generate":
        return *max(_generated(load, *training), _generated(load, *held_out), key=sum), 0.0
    # merged copies of every projection (in 8 bits a second one: held-out problems are asked with
    # the first); a captured graph knows its cache by address, so training's
    # and the held-out problems' are both kept
    copies = load.number_bytes + (INT8_BYTES if load.int8 else 0)
    engine = load.shape.projection_weights * copies / GIB
    passing = 0.0
    for rows, tokens in (held_out, training):
        longest = load.prompt_tokens + tokens
        slots = load.shape.cached_tokens(-(-longest // SLOTS_MULTIPLE) * SLOTS_MULTIPLE)
        row_gib = load.shape.cache_bytes(slots, load.number_bytes) / GIB
        together = min(rows, ROWS)
        if load.room_gib is not None:
            free = max(0.0, load.room_gib - CONTEXT_GIB - resident - engine)
            with_room = min(together, int(MEMORY_SHARE * free / row_gib))
            together = max(min(load.group, together), with_room)
        # each distinct prompt is read once, into a cache that is there already
        read = min(max(1, together // load.group) * load.prompt_tokens, PREFILL_TOKENS)
        reading = _reading_bytes(load, read, lora_apart=False) / GIB
        engine += together * row_gib
        passing = max(passing, reading, _sampling_gib(load, together))
    return 0.0, passing, engine


def _generated(load: Load, rows: int, tokens: int) -> tuple[float, float]:
    """Keys and values, and what reading or sampling needs, of transformers' `generate`; GiB."""
    shape, lora_apart = load.shape, not load.fused_lora

    def cache_gib(length: int) -> float:
        return shape.cache_bytes(rows * shape.cached_tokens(length), load.number_bytes) / GIB

    first = cache_gib(load.prompt_tokens)
    reading = _reading_bytes(load, rows * load.prompt_tokens, lora_apart=lora_apart) / GIB
    last, sampling = cache_gib(load.prompt_tokens + tokens), _sampling_gib(load, rows)
    return max((first, reading), (last, sampling), key=sum)


def _sampling_gib(load: Load, rows: int) -> float:
    return rows * load.shape.vocabulary * SAMPLED_LOGIT_BYTES / GIB


def _update(load: Load) -> tuple[float, float]:
    """Activations and logits of one micro-batch, or of the pass before it; GiB."""
    kept, passing = _kept_bytes(load) / GIB, _passing_bytes(load) / GIB
    numbers_B_T_V = load.micro_batch * (load.completion_tokens + 1) * load.shape.vocabulary
    if load.packed or load.liger:
        trained = _logits_in_parts(load) if load.packed or load.ours else 0.0
        scored = _scored_bytes(load) / GIB if load.second_pass else 0.0
    else:
        trained = numbers_B_T_V * TRAINED_LOGIT_BYTES / GIB
        own = load.number_bytes if load.number_bytes < FLOAT32 else 0
        scored = numbers_B_T_V * (SCORED_LOGIT_BYTES + own) / GIB if load.second_pass else 0.0
    # logits are gone when the gradient reaches a layer; the scoring pass keeps no activations
    if scored > kept + max(trained, passing):
        return (scored, 0.0) if load.packed or load.liger else (0.0, scored)
    return kept + max(0.0, passing - trained), trained


def _logits_in_parts(load: Load) -> float:
    """Parts of the logits; hidden states and their gradient; GiB."""
    tokens = load.micro_batch * load.completion_tokens
    logits = tokens * load.shape.vocabulary
    if load.packed:  # a part, and its gradient in the number type; hidden states, their gradient
        held = min(logits * FLOAT32, PART_BYTES) * (FLOAT32 + load.number_bytes) / FLOAT32
        return (held + 2 * tokens * load.shape.hidden * load.number_bytes) / GIB
    logits *= FLOAT32 + (load.number_bytes if load.number_bytes < FLOAT32 else 0)
    held = logits if logits <= PART_BYTES else 2 * PART_BYTES
    return (held + 2 * tokens * load.shape.hidden * load.number_bytes) / GIB


def layer_bytes(load: Load, *, masked: bool) -> float:
    """Bytes that a token leaves in one layer, but for the attention's mask if it has one."""
    shape, number = load.shape, load.number_bytes
    hidden, mlp = shape.hidden, shape.mlp
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    # Liger's norms keep what they are given, transformers' a float32 copy of it
    of_heads = query + key if shape.head_norms else 0
    normed = (shape.norms * hidden + of_heads) * (number if load.liger else FLOAT32)
    # of each norm's and each query's sum one number
    normed_heads = shape.heads + shape.kv_heads if shape.head_norms else 0
    sums = (shape.norms + shape.heads + normed_heads) * FLOAT32
    # with a mask each query gets a copy of its keys and values; one key head is only viewed
    is_repeated = masked and 1 < shape.kv_heads < shape.heads
    rotated = query + 2 * (query if is_repeated else key)
    attended = query
    # what projections read: queries, keys and values share theirs, so do gate and up
    read = 2 * hidden + mlp
    if not load.fused_lora and load.adapter_bytes != number:
        read += 3 * hidden + query  # peft's copies, cast back and forth, are each one's own
    # gate and up; transformers also keeps the activated gate
    inside = (2 if load.liger else 3) * mlp
    narrow = 7 * load.adapter_rank
    return normed + sums + (rotated + attended + read + inside + narrow) * number


def _kept_bytes(load: Load) -> float:
    """Bytes that a micro-batch leaves for the backward pass."""
    tokens, layers = load.micro_tokens, load.shape.layers
    if load.checkpointing:
        kept = float(tokens * layers * load.shape.hidden * load.number_bytes)
    else:
        masked = masked_layers(load)
        kept = tokens * masked * layer_bytes(load, masked=True)
        kept += tokens * (layers - masked) * layer_bytes(load, masked=False)
        kept += masked * mask_bytes(load, load.micro_batch)
        kept += layers * _shared_keys_bytes(load)
    return kept + _shared_mask_bytes(load, load.micro_batch)


def _shared_keys_bytes(load: Load) -> float:
    """Bytes of a layer's keys and values that are copied for each completion of a shared prompt."""
    copies = (load.micro_batch - load.pass_prompts) * load.prompt_tokens
    return 2.0 * copies * load.shape.kv_heads * load.shape.head_dim * load.number_bytes


def _passing_bytes(load: Load) -> float:
    """Bytes needed for a while in one layer of the backward pass, computed again or not."""
    shape, number = load.shape, load.number_bytes
    passing: float
    if load.fused_lora:
        # gradients of the feed-forward part's product, its input and output, and the residual
        passing = (shape.mlp + 3 * shape.hidden) * number
    else:
        passing = shape.mlp * PEFT_IN_FLIGHT_BYTES * (number / 2)
    masks = 0.0
    if load.checkpointing:
        passing += layer_bytes(load, masked=masked_layers(load) > 0)
        masks = _passing_mask_bytes(load, load.micro_batch) + _shared_keys_bytes(load)
    return load.micro_tokens * passing + masks


def _reading_bytes(load: Load, tokens: int, *, lora_apart: bool) -> float:
    """Bytes that so many tokens need in one feed-forward part without gradient.

    With `lora_apart` peft's own LoRA is applied, which makes copies.
    """
    shape, number = load.shape, load.number_bytes
    if lora_apart:
        return tokens * shape.mlp * (READ_BYTES + load.adapter_bytes) * (number / 2)
    # gate, up and their product; the layer's input and the normed one
    return float(tokens * (3 * shape.mlp + 2 * shape.hidden) * number)


def _scored_bytes(load: Load) -> float:
    """Bytes of the pass without gradient over a generation batch, where logits are in chunks."""
    rows = load.scored_rows
    masks = _shared_mask_bytes(load, rows) + _passing_mask_bytes(load, rows)
    return masks + _reading_bytes(load, rows * load.length, lora_apart=not load.fused_lora)


def masked_layers(load: Load) -> int:
    """Layers whose attention gets a mask: without padding before it, it is causal instead."""
    shape = load.shape
    if load.ragged and not load.aligned:
        return shape.layers
    sees_all = shape.window is None or load.length <= shape.window
    return 0 if sees_all or load.windowed else shape.sliding_layers


def mask_bytes(load: Load, rows: int) -> float:
    """Bytes of the mask that torch makes of the shared one in a layer, in its number type."""
    padded = -(-load.length // MASK_MULTIPLE) * MASK_MULTIPLE
    return float(_mask_rows(load, rows) * load.length * padded * load.number_bytes)


def _passing_mask_bytes(load: Load, rows: int) -> float:
    """Bytes of a layer's mask while it is computed: as it is, and lengthened to whole multiples."""
    return 2 * mask_bytes(load, rows) if masked_layers(load) else 0.0


def _shared_mask_bytes(load: Load, rows: int) -> float:
    """Bytes of the masks that all layers share, a byte a number: one a kind of masked layer."""
    masked = masked_layers(load)
    if not masked:
        return 0.0
    kinds = 2 if masked == load.shape.layers and load.shape.window is not None else 1
    return float(kinds * _mask_rows(load, rows) * load.length**2)


def _mask_rows(load: Load, rows: int) -> int:
    """Texts that begin at the left share one mask."""
    return 1 if load.aligned else rows
